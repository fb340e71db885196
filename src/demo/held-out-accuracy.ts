import { type ExampleSplit, toDataUri } from './example-data.js';

const IMAGES_PER_REQUEST = 256;

/** The part of a prediction's answer that the demo and the benchmarks read. */
export interface Prediction {
  data: { predictions: { label: string; score: number }[] }[];
}

/** Accuracy in % on the images that training never saw. */
export async function heldOutAccuracy(
  { test }: ExampleSplit,
  predict: (images: string[]) => Promise<Prediction>,
): Promise<number> {
  let correct = 0;
  for (let start = 0; start < test.length; start += IMAGES_PER_REQUEST) {
    const part = test.slice(start, start + IMAGES_PER_REQUEST);
    const { data } = await predict(part.map(({ bytes }) => toDataUri(bytes)));
    correct += data.filter(({ predictions }, i) => predictions[0].label === part[i].label).length;
  }
  return (correct / test.length) * 100;
}
