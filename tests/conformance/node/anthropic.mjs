// Messages by `@anthropic-ai/sdk`; streams through its accumulating helper.
import Anthropic, { AnthropicError } from "@anthropic-ai/sdk";
import { TIMEOUT, run } from "./cases.mjs";

const FINISH = { end_turn: "stop", stop_sequence: "stop", max_tokens: "length", tool_use: "tools", refusal: "filtered" };
const client = (asked) => new Anthropic({ baseURL: asked.url, apiKey: "sk-conformance", maxRetries: 0, timeout: TIMEOUT });

function request(asked) {
  const messages = [{ role: "user", content: asked.text }];
  if (asked.calls.length) {
    messages.push({ role: "assistant", content: asked.calls.map(({ id, name, arguments: input }) => ({ type: "tool_use", id, name, input })) });
    messages.push({ role: "user", content: asked.calls.map(({ id }) => ({ type: "tool_result", tool_use_id: id, content: asked.result })) });
  }
  const described = ([name, { description, parameters }]) => ({ name, description, input_schema: parameters });
  return {
    model: asked.model, system: asked.system, messages, max_tokens: asked.max_tokens,
    tools: asked.tools ? Object.entries(asked.tools).map(described) : undefined,
    thinking: asked.reasoning ? { type: "enabled", budget_tokens: 1024 } : undefined,
  };
}

async function ask(asked, found) {
  if (!asked.stream) return read(await client(asked).messages.create(request(asked)), found);
  const stream = client(asked).messages.stream(request(asked));
  let streamed = "";
  stream.on("text", (text) => (found.text = streamed += text));
  for (const kind of ["text", "thinking", "inputJson"]) stream.on(kind, () => (found.pieces += 1));
  read(await stream.finalMessage(), found);
  if (streamed !== found.text) throw new Error(`the deltas said ${streamed}, the end ${found.text}`);
}

function read(answer, found) {
  const all = (type, member) => answer.content.filter((block) => block.type === type).map((block) => block[member]).join("");
  [found.text, found.reasoning] = [all("text", "text"), all("thinking", "thinking")];
  found.calls = answer.content.filter(({ type }) => type === "tool_use").map(({ id, name, input }) => ({ id, name, arguments: input }));
  found.finish = FINISH[answer.stop_reason];
  const { input_tokens, cache_read_input_tokens, cache_creation_input_tokens, output_tokens } = answer.usage;
  found.input = input_tokens + (cache_read_input_tokens ?? 0) + (cache_creation_input_tokens ?? 0);
  found.output = output_tokens;
}

async function leave(asked) {
  const stream = client(asked).messages.stream(request(asked));
  stream.on("abort", () => {});
  await new Promise((said) => stream.once("text", said));
  stream.abort();
}

await run({ ask, leave, errors: (error) => error instanceof AnthropicError });
