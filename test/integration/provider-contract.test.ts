import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TextsAssembly } from '../../src/providers/assemble.js';
import type { ClassTexts, Provider, ProviderImage } from '../../src/providers/provider.js';
import { ProviderCallError } from '../../src/providers/provider-call-error.js';
import { startContextOf } from '../../src/providers/start-context.js';
import { renderTexts } from '../../src/providers/texts.js';
import { EmojiClip } from '../../src/reference-provider/emoji-clip.js';
import { encodedImage } from '../../src/reference-provider/image-input.js';
import { type RunningReferenceProvider, startReferenceProvider } from '../../src/reference-provider/start.js';
import { KEY, MODEL_DIRECTORY, openSubject, providerImages, SUBJECTS, type Subject } from '../helpers/contract.js';
import { LOGIT_SCALE } from '../helpers/protocols.js';
import { type Script, ScriptedServer } from '../helpers/scripted-server.js';
import { scoreWhole } from '../helpers/whole-scoring.js';

/** Whatever the protocol, the scores are those of the model itself: exactly, or up to one constant for each image. */

let server: RunningReferenceProvider;
let model: EmojiClip;
let images: ProviderImage[];

beforeAll(async () => {
  server = await startReferenceProvider({ modelDirectory: MODEL_DIRECTORY, apiKeys: [KEY] });
  model = await EmojiClip.load({ modelDirectory: MODEL_DIRECTORY });
  images = await providerImages(5);
});

afterAll(async () => {
  await server.close();
  await model.close();
});

const UNICODE = ['größe ünï çødé', '猫 🐈', 'כלב', 'e\u0301 and é', '👩‍👩‍👧'];
const SIGNS = [
  'it\'s "quoted", with a comma',
  'back\\slash \\n',
  '$& $1 $`',
  '{{model}} {{labels}}',
  'A: first\nB: second',
  'tab\tand \u2028 separators',
  '<b>&amp;</b>',
];
const TEMPLATE = 'a photo of a {}.';
const MANY = Array.from({ length: 22 }, (_, i) => `${['red', 'small', 'old'][i % 3]} thing ${i}`);

/** Where the protocol's scores are comparable within one request only. */
function isRelative(provider: Provider): boolean {
  return provider.capabilities.returns !== 'logits' && provider.capabilities.returns !== 'embeddings';
}

/** What the model itself says of texts: logits [N, C]. */
async function direct(texts: string[], asked = images): Promise<Float32Array> {
  const inputs = await Promise.all(asked.map(async (image) => encodedImage(await image.bytes())));
  return model.score({ images: inputs, classNames: texts, prompts: [{ template: '{}' }] });
}

/** The largest difference between logits [N, C], of relative ones after the first class of each image was made 0. */
function distance(a: Float32Array, b: Float32Array, classCount: number, relative: boolean): number {
  expect(a).toHaveLength(b.length);
  const at = (values: Float32Array, i: number) => values[i] - (relative ? values[i - (i % classCount)] : 0);
  return Math.max(...Array.from(a, (_, i) => Math.abs(at(a, i) - at(b, i))));
}

async function expectModelScores(provider: Provider, classes: ClassTexts, templates: string[], asked = images) {
  const { logits, calls } = await scoreWhole(provider, { images: asked, classes }, templates);
  const relative = isRelative(provider);
  for (const [t, template] of templates.entries()) {
    const expected = await direct(renderTexts(template, classes), asked);
    const difference = distance(logits[t], expected, classes.names.length, relative);
    expect(difference, `template ${t}`).toBeLessThan(relative ? 1e-3 : 1e-4);
  }
  return calls;
}

async function withSubject<T>(
  subject: Subject,
  settings: Record<string, unknown>,
  work: (provider: Provider) => Promise<T>,
): Promise<T> {
  const provider = await openSubject(subject, server.url, { settings });
  try {
    return await work(provider);
  } finally {
    await provider.close();
  }
}

describe.each(SUBJECTS)('scores through %s', (subject) => {
  it('are the model’s, of several images under several prompts', () =>
    withSubject(subject, {}, async (provider) => {
      const calls = await expectModelScores(provider, { names: ['cat', 'dog', 'red apple'] }, [TEMPLATE]);
      expect(calls).toBe(provider.capabilities.maxImagesPerRequest === 1 ? images.length : 1);
      await expectModelScores(provider, { names: ['cat', 'dog'] }, ['a {}', 'the {} is here', '{}']);
    }));

  it('are the model’s, of class names in any script', () =>
    withSubject(subject, {}, (provider) =>
      expectModelScores(provider, { names: UNICODE }, ['ein „Bild“ von {}, 🙂'], images.slice(0, 2)),
    ));

  it('are the model’s, of class names full of signs that mean something elsewhere', () =>
    withSubject(subject, {}, (provider) =>
      expectModelScores(provider, { names: SIGNS }, [TEMPLATE], images.slice(0, 2)),
    ));

  it('are the model’s, of descriptions, also where a class has none', () =>
    withSubject(subject, {}, async (provider) => {
      const classes = {
        names: ['cat', 'dog', 'apple'],
        descriptions: ['a small animal with "whiskers"', null, 'fruit: {}, {{labels}}'],
      };
      const templates = ['a photo of a {}, {description}', '{description} {}'];
      await expectModelScores(provider, classes, templates, images.slice(0, 2));
    }));

  it('do not depend on how many images came before', () =>
    withSubject(subject, {}, async (provider) => {
      const classes = { names: ['cat', 'dog'] };
      const alone = await scoreWhole(provider, { images: images.slice(3, 4), classes }, [TEMPLATE]);
      const among = await scoreWhole(provider, { images, classes }, [TEMPLATE]);
      expect([...among.logits[0].slice(6, 8)]).toEqual([...alone.logits[0]]);
    }));
});

describe('more classes than one request takes', () => {
  /** The most classes of a request, and the calls that 22 of them need for one image. */
  const ROUNDS: [Subject, Record<string, unknown>, number][] = [
    // 20 in the first request, then the anchor and 2 others: cut evenly, an anchor and 11 at most.
    ['openai_chat', { top_logprobs: 20 }, 2],
    ['openai_chat', { top_logprobs: 2 }, 21],
    ['hugging_face', { max_labels: 8 }, 3],
    ['custom_http', { max_labels: 2 }, 21],
    ['embeddings: infinity', { texts_per_request: 5 }, 5],
    ['embeddings: jina', { texts_per_request: 1 }, 22],
    ['embeddings: cohere', { texts_per_request: 21 }, 2],
    ['embeddings: voyage', { texts_per_request: 22 }, 1],
  ];

  it.each(ROUNDS)('come together through %s with %j', (subject, settings, rounds) =>
    withSubject(subject, settings, async (provider) => {
      const calls = await expectModelScores(provider, { names: MANY }, [TEMPLATE], images.slice(0, 2));
      expect(calls).toBe(provider.kind === 'embedding' ? rounds : 2 * rounds);
    }),
  );

  it('come together through open_inference where the model takes fewer classes, texts and logits', async () => {
    const described = await openSubject('open_inference', server.url);
    const limited = { maxClassesPerRequest: 7, maxTextsPerRequest: 10, maxLogitsPerRequest: 12 };
    Object.assign(described.capabilities, limited);
    const calls = await expectModelScores(described, { names: MANY }, ['a {}', 'b {}'], images.slice(0, 3));
    // 22 classes in 4 rounds; of 7 classes one image under one prompt is all that 12 logits hold.
    expect(calls).toBe(4 * 2 * 3);
    await described.close();
  });
});

describe('embeddings of texts', () => {
  it.each([
    [2, 3],
    [3, 2],
  ])('of %i and then %i numbers are not put together', (first, other) => {
    const assembly = new TextsAssembly(2, () => {
      throw new Error('nothing is complete');
    });
    const one = {
      chunk: 0,
      firstPrompt: 0,
      promptCount: 1,
      firstImage: 0,
      imageCount: 0,
      classCount: 1,
      anchored: false,
    };
    assembly.add({ ...one, firstClass: 0 }, new Float32Array(first));
    const failure = () => assembly.add({ ...one, firstClass: 1 }, new Float32Array(other));
    expect(failure).toThrow(ProviderCallError);
    expect(failure).toThrow(/settings\.dimensions/);
  });
});

describe('scores through open_inference as JSON', () => {
  const JSON_ONLY = { binary: false };

  it('are the model’s, of images, any text and soft prompts, and nothing travels in binary', async () => {
    const types = new Set<string>();
    const observed = await openSubject('open_inference', server.url, {
      settings: JSON_ONLY,
      observe: ({ headers }) => types.add(String(headers['content-type'])),
    });
    await expectModelScores(observed, { names: [...UNICODE, ...SIGNS] }, ['a {}', 'ein „Bild“ von {}'], images);
    // Once more, now that images are known by their hash.
    await expectModelScores(observed, { names: ['cat', 'dog'] }, [TEMPLATE], images);
    expect([...types].filter((type) => !type.startsWith('application/json'))).toEqual([]);
    expect(types.size).toBeGreaterThan(0);
    await observed.close();
  });

  it('are the same for a soft prompt', () =>
    withSubject('open_inference', JSON_ONLY, async (provider) => {
      if (provider.kind !== 'scoring') throw new TypeError('Open Inference scores.');
      const prompts = { kind: 'context' as const, count: 1, values: startContextOf(provider.capabilities) };
      const names = ['cat', 'dog'];
      const { logits } = await provider.score({ prompts, images, classes: { names } });
      const expected = await direct(renderTexts(provider.capabilities.defaultTemplate, { names }));
      expect(distance(logits, expected, names.length, false)).toBeLessThan(1e-4);
    }));

  it('are asked for in bodies that are JSON throughout', async () => {
    const scripted = await ScriptedServer.start();
    let asked: unknown;
    scripted.play((_, response, body) => {
      asked = JSON.parse(body.toString());
      response.writeHead(500).end();
    });
    const provider = await openSubject('open_inference', scripted.url, {
      settings: JSON_ONLY,
      describedAt: server.url,
    });
    await expect(scoreWhole(provider, { images, classes: { names: ['cat', 'dog'] } }, ['a {}'])).rejects.toThrow('500');
    const data = await Promise.all(images.map(async (image) => (await image.bytes()).toString('base64')));
    expect(asked).toEqual({
      parameters: { binary_data_output: false },
      inputs: [
        { name: 'images', datatype: 'BYTES', shape: [5], parameters: { content_type: 'base64' }, data },
        { name: 'class_names', datatype: 'BYTES', shape: [2], data: ['cat', 'dog'] },
        { name: 'template', datatype: 'BYTES', shape: [1], data: ['a {}'] },
      ],
      outputs: [{ name: 'logits', parameters: { binary_data: false } }],
    });
    await provider.close();
    await scripted.close();
  });
});

describe('scores through open_inference', () => {
  it('are the same for a soft prompt that starts where the template does', () =>
    withSubject('open_inference', {}, async (provider) => {
      if (provider.kind !== 'scoring') throw new TypeError('Open Inference scores.');
      const names = ['cat', 'dog'];
      const values = startContextOf(provider.capabilities);
      const { logits } = await provider.score({
        prompts: { kind: 'context', count: 1, values },
        images,
        classes: { names },
      });
      const expected = await direct(renderTexts(provider.capabilities.defaultTemplate, { names }));
      expect(distance(logits, expected, names.length, false)).toBeLessThan(1e-4);
    }));
});

describe('custom HTTP in another form', () => {
  /** A server of its own invention: many images as data URIs, whole texts, logits by image in an order of its own. */
  const invention: Script = async (_, response, body) => {
    const { pictures, ask } = JSON.parse(body.toString()) as { pictures: string[]; ask: { texts: string[] } };
    const inputs = pictures.map((uri) => encodedImage(Buffer.from(uri.slice(uri.indexOf(',') + 1), 'base64')));
    const texts = ask.texts.toReversed();
    const logits = await model.score({ images: inputs, classNames: texts, prompts: [{ template: '{}' }] });
    const rows = pictures.map((_, n) => ({
      best: texts.map((text, c) => ({ text, values: { 'the score': logits[n * texts.length + c] } })),
    }));
    response.end(JSON.stringify({ rows }));
  };

  it('asks about many images at once and reads the scores where the record says', async () => {
    const scripted = await ScriptedServer.start();
    scripted.play(invention);
    const provider = await openSubject('custom_http', scripted.url, {
      settings: {
        body: { pictures: '{{images_data_uri}}', ask: { texts: '{{texts}}', of: ['{{model}}', 'for {{labels}}'] } },
        result: {
          kind: 'logits',
          scores: '$.rows[*].best[*].values["the score"]',
          labels: '$.rows[*].best[*].text',
        },
      },
    });
    const calls = await expectModelScores(provider, { names: ['cat', 'dog', 'red apple'] }, ['a {}', 'the {}']);
    expect(calls).toBe(2);
    expect(scripted.requests).toHaveLength(2);
    await provider.close();
    await scripted.close();
  });
});

describe('the scale of embeddings', () => {
  it('multiplies the cosines', () =>
    withSubject('embeddings: infinity', { scale: 2 * LOGIT_SCALE }, async (provider) => {
      const classes = { names: ['cat', 'dog'] };
      const { logits } = await scoreWhole(provider, { images, classes }, ['{}']);
      const expected = (await direct(classes.names)).map((value) => 2 * value);
      expect(distance(logits[0], expected, 2, false)).toBeLessThan(2e-4);
    }));
});
