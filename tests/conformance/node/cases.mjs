// Reads questions as JSON from stdin, puts them to one SDK, and prints what became of each.
//
// A question is what outcome.py calls Asked, with `leave` when the stream is to be left after its first text, and `again`, a question to
// be asked with the tool calls that the first one brought. An answer is what outcome.py calls Outcome; `left_at` is CLOCK_MONOTONIC.

export const TIMEOUT = 15_000;
export const FINISH = { stop: "stop", length: "length", tool_calls: "tools", "tool-calls": "tools", content_filter: "filtered" };

export const outcome = () => ({
  text: "", reasoning: "", calls: [], finish: null, input: null, output: null, pieces: 0, raised: "", message: "", status: null,
});

async function settle(sdk, asked) {
  const found = outcome();
  try {
    await sdk.ask(asked, found);
  } catch (error) {
    found.raised = sdk.errors(error) ? error.constructor.name : `not an error of the SDK: ${error.constructor.name}`;
    found.message = String(error.message);
    found.status = error.status ?? error.statusCode ?? null;
  }
  return found;
}

export async function run(sdk) {
  let text = "";
  for await (const piece of process.stdin) text += piece;
  const answers = [];
  for (const asked of JSON.parse(text)) {
    if (asked.leave) {
      await sdk.leave(asked);
      answers.push({ left_at: Number(process.hrtime.bigint()) / 1e9 });
      continue;
    }
    const first = await settle(sdk, asked);
    const second = asked.again && !first.raised ? await settle(sdk, { ...asked.again, calls: first.calls }) : null;
    answers.push({ first, second });
  }
  process.stdout.write(JSON.stringify(answers));
}
