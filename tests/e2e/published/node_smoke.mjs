// Calls a gateway with the published TypeScript client; one line of JSON says what came back.
//
// Takes npm's `llmwise` 0.1.2 from the folder NODE_MODULES (see clients.py), the gateway's address from
// LLMWISE_BASE_URL and the key from LLMWISE_API_KEY: the client itself reads no environment. Everything goes
// through `<base>/compat`, as a user of this client would have it; `plain` shows what works without. The
// options are those of python_smoke.py, and so is what happens when a call fails.
//
// What this client asks of a gateway, besides what the API's documentation says:
//
// - It cuts a stream at the two characters backslash and n; `/compat` writes them after each event, and keeps
//   them out of the JSON (a newline as \u000a, a backslash as \u005c). What lies between two cuts must begin
//   with `data:`, so a comment needs a cut of its own; what follows the last cut is never looked at.
// - It leaves out of the query what isn't set: the server's defaults are the Python client's.
// - Unset fields of a JSON body are left out too: `optimizationReplay()` sends `{}`. A field is never null,
//   except where the caller says so.
// - `updateConversation(id, {title: null})` sends an empty title; `{}` sends none.
// - `keysGenerate`, `createConversation` and the runs of suites and schedules send `{}`.
// - It reads no `status` but `ok` (200 to 299), and parses the body of every 2xx as JSON.
// - Its messages are the body's `error`, if that is a string; for a GET, the body's whole text.
// - Node gives up on a connection that is silent for 300 s. In a browser `Authorization` needs CORS.

import { createRequire } from "node:module";
import { parseArgs } from "node:util";
import { pathToFileURL } from "node:url";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const folder = process.env.NODE_MODULES;
const packageFile = join(folder, "llmwise", "package.json");
const entry = createRequire(packageFile).resolve("llmwise", { paths: [folder] });
const { LLMWise, LLMWiseError } = await import(pathToFileURL(entry));
const { version } = JSON.parse(readFileSync(packageFile, "utf8"));

const { values: options } = parseArgs({
  options: {
    model: { type: "string", default: "auto" },
    primary: { type: "string", default: "gpt-5.2" },
    fallback: { type: "string", default: "claude-sonnet-4.5,gemini-3-flash" },
    prompt: { type: "string", default: "Say hello." },
    "read-only": { type: "boolean", default: false },
  },
});
const baseUrl = process.env.LLMWISE_BASE_URL.replace(/\/+$/, "");
const apiKey = process.env.LLMWISE_API_KEY;
const client = new LLMWise({ apiKey, baseUrl: `${baseUrl}/compat` });
const plain = new LLMWise({ apiKey, baseUrl });
const messages = [{ role: "user", content: options.prompt }];

function check(condition, message) {
  if (!condition) throw new Error(message);
}

// The read-only set that the published clients ship: for each call the keys of its object, the length of its
// array, or its refusal. Without arguments where they are optional, so that the server's defaults are used.
async function reads() {
  const arrays = ["models", "creditsTransactions", "creditsPacks", "usageRecent"];
  const calls = {
    models: [], creditsBalance: [], creditsWallet: [], creditsTransactions: [], creditsPacks: [],
    usageSummary: [], usageRecent: [], conversations: [], history: [{}], keysInfo: [], memory: [],
    memorySearch: [{ q: "hello" }], optimizationPolicy: [], optimizationReport: [], optimizationSnapshots: [],
    optimizationAlerts: [], optimizationTestTemplates: [], optimizationTestSuites: [], optimizationTestRuns: [],
    optimizationRegressionSchedules: [], settingsKeys: [], settingsPrivacy: [], settingsCopilotState: [],
  };
  const found = {};
  for (const [method, args] of Object.entries(calls)) {
    found[method] = await refusalOr(async () => {
      const answer = await client[method](...args);
      const isArray = arrays.includes(method);
      check(answer !== null && typeof answer === "object" && Array.isArray(answer) === isArray, `${method}: shape`);
      return isArray ? answer.length : Object.keys(answer).sort();
    });
  }
  return found;
}

// The readme's loop, which also notes what it skips.
async function streamed(events) {
  const found = { text: "", events: [], routes: [], trace: null, last_chunk: null, done: null };
  for await (const ev of events) {
    found.events.push(ev.event ?? "chunk");
    if (ev.event === "route") found.routes.push([ev.model, ev.status]);
    if (ev.event === "trace") found.trace = ev;
    if (ev.done) found.last_chunk = ev;
    if (ev.event === "route" || ev.event === "trace") continue;
    if (ev.event === "done") {
      found.done = ev;
      break;
    }
    if (ev.delta) {
      check(ev.model, "an event with a delta has its model");
      found.text += ev.delta;
    }
  }
  return found;
}

async function conversation() {
  const { id } = await client.createConversation();
  await client.updateConversation(id, { title: "smoke" });
  const { title } = await client.getConversation(id);
  const cleared = await client.updateConversation(id, { title: null });
  return { title, cleared: cleared.title ?? "", deleted: Object.keys(await client.deleteConversation(id)).sort() };
}

async function refusalOr(call) {
  try {
    return await call();
  } catch (error) {
    if (!(error instanceof LLMWiseError)) throw error;
    return { status: error.status, message: error.message };
  }
}

const found = { client: `node ${version}`, reads: await reads() };
found.plain = { models: (await plain.models()).length };
if (!options["read-only"]) {
  const { model } = options;
  found.chat = await client.chat({ model, messages, temperature: 0, max_tokens: 64 });
  found.chat_stream = await streamed(client.chatStream({ model, messages }));
  check(found.chat_stream.done, "a stream ends with the event done");
  const routing = { strategy: "rate-limit", fallback: options.fallback.split(",") };
  found.routed_stream = await streamed(client.chatStream({ model: options.primary, routing, messages }));
  check(found.routed_stream.done, "a routed stream ends with the event done");
  found.plain.chat_stream = (await streamed(plain.chatStream({ model, messages }))).events;
  found.conversation = await refusalOr(conversation);
  found.history_total = (await client.history({})).total;
  found.usage_recent = (await client.usageRecent()).length;
  const stranger = new LLMWise({ apiKey: "mm_sk_" + "0".repeat(64), baseUrl: `${baseUrl}/compat` });
  found.refusal = await refusalOr(() => stranger.chat({ model, messages }));
  found.refusal.stream = await refusalOr(() => stranger.chatStream({ model, messages }).next());
}
console.log(JSON.stringify(found));
