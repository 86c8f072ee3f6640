// Compare, blend and judge with the published TypeScript client, whole and streamed; one line of JSON says what came
// back. Like `node_smoke.mjs`, which says how it is run.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const folder = process.env.NODE_MODULES;
const packageFile = join(folder, "llmwise", "package.json");
const entry = createRequire(packageFile).resolve("llmwise", { paths: [folder] });
const { LLMWise } = await import(pathToFileURL(entry));
const { version } = JSON.parse(readFileSync(packageFile, "utf8"));

const client = new LLMWise({ apiKey: process.env.LLMWISE_API_KEY, baseUrl: `${process.env.LLMWISE_BASE_URL}/compat` });
const messages = [{ role: "user", content: "What is the capital of Australia?" }];
const models = ["gpt-5.2", "claude-sonnet-4.5"];
const judge = "gemini-3-flash";
const contest = { contestants: models, judge, messages, criteria: ["It is true."] };

async function all(events) {
  const found = [];
  for await (const event of events) found.push(event);
  return found;
}

console.log(
  JSON.stringify({
    client: `node ${version}`,
    compare: await client.compare({ models, messages }),
    compare_stream: await all(client.compareStream({ models, messages })),
    blend: await client.blend({ models, messages, strategy: "consensus", synthesizer: judge }),
    blend_stream: await all(client.blendStream({ models, messages, strategy: "moa", synthesizer: judge, layers: 2 })),
    self_moa: await client.blend({ models: [judge], messages, strategy: "self_moa", samples: 2 }),
    judge: await client.judge(contest),
    judge_stream: await all(client.judgeStream(contest)),
  }),
);
