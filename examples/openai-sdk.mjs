// The same path with OpenAI's own SDK as client: npm install openai, then
//   CRAFT_API_KEY=$(cat .craft/api-key) node examples/openai-sdk.mjs
import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import OpenAI from 'openai';

const client = new OpenAI({
  baseURL: `${process.env.CRAFT_URL ?? 'http://127.0.0.1:8080'}/v1`,
  apiKey: process.env.CRAFT_API_KEY,
});

const zip = new URL('fluent-contrast-subgroups.zip', import.meta.url);
const file = await client.files.create({ purpose: 'fine-tune', file: createReadStream(zip) });
console.log('uploaded', file.id);

let job = await client.fineTuning.jobs.create({
  model: 'emoji-clip',
  training_file: file.id,
  seed: 1,
  method: { type: 'craft', craft: { budget: { max_image_queries: 4000 } } },
});
while (job.status === 'queued' || job.status === 'running') {
  await new Promise((resolve) => setTimeout(resolve, 1000));
  job = await client.fineTuning.jobs.retrieve(job.id);
  console.log(job.status, `generation ${job.progress.generation} of ${job.progress.generations}`);
}

const png = await (process.argv[2] ? readFile(process.argv[2]) : undefined);
if (png) {
  const answer = await client.post(`/adapters/${job.fine_tuned_model}/predict`, {
    body: { images: [`data:image/png;base64,${png.toString('base64')}`] },
  });
  console.log(answer.data[0].predictions);
} else {
  console.log(`${job.fine_tuned_model} is ready; name an image file to have it predicted.`);
}
