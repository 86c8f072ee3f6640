// Every optimization, suite and schedule method of the published TypeScript client, once; one line of JSON says what
// came back. Runs as node_smoke.mjs does. Arguments are left out where they may be: the server's defaults are used.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { join } from "node:path";

const folder = process.env.NODE_MODULES;
const entry = createRequire(join(folder, "llmwise", "package.json")).resolve("llmwise", { paths: [folder] });
const { LLMWise } = await import(pathToFileURL(entry));
const client = new LLMWise({ apiKey: process.env.LLMWISE_API_KEY, baseUrl: process.env.LLMWISE_BASE_URL });

const found = {};
const policy = await client.optimizationPolicy();
found.goal = (await client.optimizationUpdatePolicy({ ...policy, goal: "cost" })).goal;
found.report = Object.keys(await client.optimizationReport()).sort();
await client.optimizationReport({ goal: "cost", days: 7, persist_snapshot: true });
found.evaluate = (await client.optimizationEvaluate()).goal;
found.snapshots = (await client.optimizationSnapshots({ goal: "cost" })).total;
found.alerts = (await client.optimizationAlerts()).total;
found.replay = (await client.optimizationReplay()).sampled;
const [template] = (await client.optimizationTestTemplates()).items;
const suite = await client.optimizationCreateTestSuite({ name: "facts", cases: template.cases, models: ["gpt-5.2"] });
found.suite = (await client.optimizationUpdateTestSuite(suite.id, { name: "renamed" })).name;
found.suites = (await client.optimizationTestSuites()).total;
const run = await client.optimizationRunTestSuite(suite.id);
found.run = [run.status, run.results.length];
found.runs = (await client.optimizationTestRuns()).total;
found.csv = (await client.optimizationTestRunCsv(run.id)).trim().split("\r\n").length;
const schedule = await client.optimizationCreateRegressionSchedule({ suite_id: suite.id, cron: "0 6 * * *" });
found.schedule = (await client.optimizationUpdateRegressionSchedule(schedule.id, { enabled: false })).enabled;
found.schedules = (await client.optimizationRegressionSchedules()).total;
found.scheduled_run = (await client.optimizationRunRegressionSchedule(schedule.id)).schedule_id === schedule.id;
console.log(JSON.stringify(found));
