// Chat completions by `ai` with `@ai-sdk/openai-compatible`.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { AISDKError, generateText, jsonSchema, streamText, tool } from "ai";
import { FINISH, TIMEOUT, run } from "./cases.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;

function request(asked) {
  const provider = createOpenAICompatible({ name: "weir", baseURL: `${asked.url}/v1`, apiKey: "sk-conformance", includeUsage: true });
  const messages = [{ role: "user", content: asked.text }];
  if (asked.calls.length) {
    const named = ({ id, name }) => ({ toolCallId: id, toolName: name });
    messages.push({ role: "assistant", content: asked.calls.map((call) => ({ type: "tool-call", ...named(call), input: call.arguments })) });
    const result = (call) => ({ type: "tool-result", ...named(call), output: { type: "text", value: asked.result } });
    messages.push({ role: "tool", content: asked.calls.map(result) });
  }
  const described = ([name, { description, parameters }]) => [name, tool({ description, inputSchema: jsonSchema(parameters) })];
  return {
    model: provider(asked.model), system: asked.system, messages, maxOutputTokens: asked.max_tokens, maxRetries: 0,
    tools: asked.tools ? Object.fromEntries(Object.entries(asked.tools).map(described)) : undefined,
    providerOptions: asked.reasoning ? { weir: { reasoningEffort: "low" } } : undefined,
    abortSignal: AbortSignal.timeout(TIMEOUT), onError: () => {},
  };
}

async function ask(asked, found) {
  if (!asked.stream) {
    const answer = await generateText(request(asked));
    [found.text, found.reasoning] = [answer.text, answer.reasoningText ?? ""];
    found.calls = answer.toolCalls.map(({ toolCallId, toolName, input }) => ({ id: toolCallId, name: toolName, arguments: input }));
    return count(answer.finishReason, answer.usage, found);
  }
  for await (const part of streamText(request(asked)).fullStream) {
    if (part.type === "text-delta") found.text += part.text;
    if (part.type === "reasoning-delta") found.reasoning += part.text;
    if (part.type === "tool-call") found.calls.push({ id: part.toolCallId, name: part.toolName, arguments: part.input });
    if (part.type === "error") throw part.error;
    if (part.type === "finish") count(part.finishReason, part.totalUsage, found);
    if (part.type.endsWith("-delta")) found.pieces += 1;
  }
}

function count(finish, usage, found) {
  found.finish = FINISH[finish];
  [found.input, found.output] = [usage.inputTokens, usage.outputTokens];
}

async function leave(asked) {
  const controller = new AbortController();
  const { textStream } = streamText({ ...request(asked), abortSignal: controller.signal });
  for await (const text of textStream) if (text) break;
  controller.abort();
}

// An error inside a stream comes as the error object that the provider sent, not wrapped into an error of the SDK's own.
await run({ ask, leave, errors: (error) => AISDKError.isInstance(error) || typeof error === "string" || "message" in error });
