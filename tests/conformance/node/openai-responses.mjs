// The Responses API by the `openai` package; streams through its accumulating helper.
import OpenAI, { APIError } from "openai";
import { TIMEOUT, run } from "./cases.mjs";

const client = (asked) => new OpenAI({ baseURL: `${asked.url}/v1`, apiKey: "sk-conformance", maxRetries: 0, timeout: TIMEOUT });

function request(asked) {
  const calls = asked.calls.map(({ id, name, arguments: said }) => ({ type: "function_call", call_id: id, name, arguments: JSON.stringify(said) }));
  const results = asked.calls.map(({ id }) => ({ type: "function_call_output", call_id: id, output: asked.result }));
  const tools = asked.tools ? Object.entries(asked.tools).map(([name, tool]) => ({ type: "function", name, strict: false, ...tool })) : undefined;
  const input = [{ role: "user", content: asked.text }, ...calls, ...results];
  const reasoning = asked.reasoning ? { effort: "low", summary: "auto" } : undefined;
  return { model: asked.model, instructions: asked.system, input, max_output_tokens: asked.max_tokens, store: false, tools, reasoning };
}

async function ask(asked, found) {
  if (!asked.stream) return read(await client(asked).responses.create(request(asked)), found);
  const stream = client(asked).responses.stream(request(asked));
  let streamed = "";
  for await (const event of stream) {
    if (event.type === "response.output_text.delta") streamed += event.delta;
    if (event.type.endsWith(".delta")) found.pieces += 1;
    found.text = streamed;
  }
  read(await stream.finalResponse(), found);
  if (streamed !== found.text) throw new Error(`the deltas said ${streamed}, the end ${found.text}`);
}

function read(answer, found) {
  found.text = answer.output_text;
  for (const item of answer.output) {
    if (item.type === "reasoning") found.reasoning += [...item.summary, ...(item.content ?? [])].map((part) => part.text).join("");
    if (item.type === "function_call") found.calls.push({ id: item.call_id, name: item.name, arguments: JSON.parse(item.arguments) });
  }
  if (answer.status === "completed") found.finish = found.calls.length ? "tools" : "stop";
  else found.finish = answer.incomplete_details?.reason === "max_output_tokens" ? "length" : "filtered";
  [found.input, found.output] = [answer.usage.input_tokens, answer.usage.output_tokens];
}

async function leave(asked) {
  const stream = await client(asked).responses.create({ ...request(asked), stream: true });
  for await (const event of stream) if (event.type === "response.output_text.delta") return stream.controller.abort();
}

await run({ ask, leave, errors: (error) => error instanceof APIError });
