import { describe, expect, test } from 'vitest';
import { datasetOf, dataUri, image, ingestBytes, jsonl, zip } from '../../helpers/dataset-files.js';

const cat = await image(1);
const dog = await image(2);
const imagePart = (url: string) => ({ type: 'image_url', image_url: { url, detail: 'low' } });
const ask = (url: string) => ({ role: 'user', content: [{ type: 'text', text: 'What is it?' }, imagePart(url)] });
const answer = (content: unknown) => ({ role: 'assistant', content });
const line = (messages: unknown, rest: object = {}) => JSON.stringify({ messages, ...rest });
const good = [
  line([{ role: 'system', content: 'You name animals.' }, ask(dataUri(cat)), answer('cat')]),
  line([ask(dataUri(dog)), answer([{ type: 'text', text: ' dog ' }])]),
];

describe('conversations of the vision fine-tuning format', () => {
  test('are labelled by the assistant, with splits', async () => {
    const { images, report } = await datasetOf(
      jsonl([...good, line([ask(dataUri(await image(3))), answer('dog')], { split: 'validation' })]),
    );
    expect(images.map(({ split, label, bytes }) => [split, label, bytes])).toEqual([
      ['train', 'cat', cat],
      ['train', 'dog', dog],
      ['validation', 'dog', await image(3)],
    ]);
    expect(report.rejected_count).toBe(0);
  });

  test('may name the images of a ZIP', async () => {
    const list = jsonl([line([ask('a/1.png'), answer('cat')]), line([ask('a/2.png'), answer('dog')])]);
    const { images } = await datasetOf(await zip({ 'a/1.png': cat, 'a/2.png': dog, 'chat.jsonl': list }));
    expect(images.map(({ label, name }) => [label, name])).toEqual([
      ['cat', 'a/1.png'],
      ['dog', 'a/2.png'],
    ]);
  });

  test('of the test split are left out, with a note', async () => {
    const { classes, report } = await datasetOf(
      jsonl([...good, line([ask(dataUri(await image(3))), answer('bird')], { split: 'test' })]),
    );
    expect(classes).toEqual(['cat', 'dog']);
    expect(report).toMatchObject({
      ignored_count: 1,
      notes: [expect.stringContaining('The entry of the test split was left out')],
    });
  });
});

const user = ask(dataUri(cat));
test.each<[string, unknown, string]>([
  ['no messages', 'cat', '"messages"'],
  ['too many messages', Array(1000).fill(answer('cat')), '"messages"'],
  ['a message that is none', [null, user, answer('cat')], 'messages[0]'],
  ['an unknown role', [user, { role: 'tool', content: 'x' }, answer('cat')], 'messages[1]'],
  ['no image', [{ role: 'user', content: 'What?' }, answer('cat')], '0 images'],
  ['two images', [user, user, answer('cat')], '2 images'],
  ['an image of the assistant', [{ role: 'assistant', content: [imagePart('data:,')] }], 'not the user'],
  ['no answer', [user], '0 messages of the assistant'],
  ['two answers', [user, answer('cat'), answer('dog')], '2 messages of the assistant'],
  ['an answer that is no text', [user, answer(5)], 'messages[1].content'],
  ['an image without its URL', [{ role: 'user', content: [{ type: 'image_url', image_url: {} }] }], '"url"'],
  ['a part of another type', [{ role: 'user', content: [{ type: 'input_audio' }] }], 'neither a text nor an image_url'],
  ['too many parts', [{ role: 'user', content: Array(1000).fill({ type: 'text', text: '' }) }], '64 parts'],
])('refused: %s', async (_, messages, says) => {
  const refusal = await ingestBytes(jsonl([...good, line(messages)])).catch((error: unknown) => error);
  expect(refusal).toMatchObject({ status: 400, code: 'invalid_jsonl', param: 'file' });
  expect((refusal as Error).message).toMatch(/^Line 3 /);
  expect((refusal as Error).message).toContain(says);
});
