// Chat completions by the `openai` package.
import OpenAI, { APIError } from "openai";
import { FINISH, TIMEOUT, run } from "./cases.mjs";

const client = (asked) => new OpenAI({ baseURL: `${asked.url}/v1`, apiKey: "sk-conformance", maxRetries: 0, timeout: TIMEOUT });

function request(asked) {
  const messages = [{ role: "system", content: asked.system }, { role: "user", content: asked.text }];
  if (asked.calls.length) {
    const call = ({ id, name, arguments: said }) => ({ id, type: "function", function: { name, arguments: JSON.stringify(said) } });
    messages.push({ role: "assistant", content: null, tool_calls: asked.calls.map(call) });
    messages.push(...asked.calls.map(({ id }) => ({ role: "tool", tool_call_id: id, content: asked.result })));
  }
  const tools = asked.tools ? Object.entries(asked.tools).map(([name, tool]) => ({ type: "function", function: { name, ...tool } })) : undefined;
  return { model: asked.model, messages, max_completion_tokens: asked.max_tokens, tools, reasoning_effort: asked.reasoning ? "low" : undefined };
}

async function ask(asked, found) {
  if (asked.stream) return read(await client(asked).chat.completions.create({ ...request(asked), stream: true, stream_options: { include_usage: true } }), found);
  const answer = await client(asked).chat.completions.create(request(asked));
  const [{ message, finish_reason }] = answer.choices;
  found.text = message.content ?? "";
  found.reasoning = message.reasoning_content ?? "";
  found.calls = (message.tool_calls ?? []).map((call) => ({ id: call.id, name: call.function.name, arguments: JSON.parse(call.function.arguments) }));
  found.finish = FINISH[finish_reason];
  [found.input, found.output] = [answer.usage.prompt_tokens, answer.usage.completion_tokens];
}

async function read(stream, found) {
  const calls = [];
  for await (const chunk of stream) {
    if (chunk.usage) [found.input, found.output] = [chunk.usage.prompt_tokens, chunk.usage.completion_tokens];
    for (const { delta, finish_reason } of chunk.choices) {
      found.text += delta.content ?? "";
      found.reasoning += delta.reasoning_content ?? "";
      if (delta.content || delta.reasoning_content) found.pieces += 1;
      for (const part of delta.tool_calls ?? []) {
        calls[part.index] ??= { id: part.id, name: part.function.name, arguments: "" };
        calls[part.index].arguments += part.function.arguments ?? "";
        if (part.function.arguments) found.pieces += 1;
      }
      if (finish_reason) found.finish = FINISH[finish_reason];
    }
  }
  found.calls = calls.map((call) => ({ ...call, arguments: JSON.parse(call.arguments) }));
}

async function leave(asked) {
  const stream = await client(asked).chat.completions.create({ ...request(asked), stream: true });
  for await (const chunk of stream) if (chunk.choices[0]?.delta.content) return stream.controller.abort();
}

await run({ ask, leave, errors: (error) => error instanceof APIError });
