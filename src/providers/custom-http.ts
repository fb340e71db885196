import { InvalidRequestError } from '../errors.js';
import { bytesOfScores } from './answer-bounds.js';
import { fillTemplate, placeholdersOf } from './body-template.js';
import { HttpProvider, textCapabilities } from './http-provider.js';
import type { ProviderCapabilities, ProviderPrices, ScoreAnswer, ScoreRequest, ScoringProvider } from './provider.js';
import type { ConnectionOf } from './provider-connection.js';
import { select } from './result-path.js';
import { matchLabels, toLogProbabilities, unusableLogits } from './score-lists.js';
import { renderTexts, templateAndLabels } from './texts.js';

/** Everything else that speaks JSON: the record says how a request is made and where in the answer the scores are. */

/** Placeholders that become a list of all images; without one of them a request carries one image. */
const MANY_IMAGES = ['images_base64', 'images_data_uri'];
const ONE_IMAGE = ['image_base64', 'image_data_uri', 'image_sha256'];
const PLACEHOLDERS = [...ONE_IMAGE, ...MANY_IMAGES, 'model', 'template', 'labels', 'texts'];

/** @throws InvalidRequestError when the body cannot ask what is to be asked */
export async function describeCustomHttp(connection: ConnectionOf<'custom_http'>): Promise<ProviderCapabilities> {
  const { settings } = connection;
  const used = placeholdersOf(settings.body);
  const refuse = (message: string) => {
    throw new InvalidRequestError({ code: 'provider_body_incomplete', param: 'settings.body', message });
  };
  const unknown = [...used].find((name) => !PLACEHOLDERS.includes(name));
  if (unknown !== undefined) refuse(`There is no {{${unknown}}}. There are ${PLACEHOLDERS.map(braced).join(', ')}.`);
  const many = MANY_IMAGES.some((name) => used.has(name));
  if (!many && !ONE_IMAGE.some((name) => used.has(name))) {
    refuse(`The body names no image. Put one of ${[...ONE_IMAGE, ...MANY_IMAGES].map(braced).join(', ')} into it.`);
  }
  if (many && ONE_IMAGE.some((name) => used.has(name))) {
    refuse('The body names both one image and all images of a request. Use one kind.');
  }
  if (!used.has('texts') && !(used.has('labels') && used.has('template'))) {
    refuse('The body does not carry the prompt. Put {{texts}} into it, or both {{labels}} and {{template}}.');
  }
  return textCapabilities(connection, {
    defaultTemplate: settings.template,
    returns: settings.result.kind,
    billingUnit: 'request',
    maxImagesPerRequest: many ? null : 1,
    maxClassesPerRequest: settings.max_labels ?? null,
  });
}

export class CustomHttpProvider extends HttpProvider<'custom_http'> implements ScoringProvider {
  readonly kind = 'scoring';

  constructor(connection: ConnectionOf<'custom_http'>, capabilities: ProviderCapabilities, prices: ProviderPrices) {
    super(connection, capabilities, prices, {
      largeAnswerRemedy: 'Lower settings.max_labels or limits.images_per_request in its record.',
    });
  }

  async score({ prompts, images, classes, ...options }: ScoreRequest): Promise<ScoreAnswer> {
    if (prompts.kind !== 'template') throw new TypeError('Custom HTTP takes text prompts.');
    const { settings } = this.connection;
    const { template, labels } = templateAndLabels(prompts.templates[0], classes);
    const texts = renderTexts(prompts.templates[0], classes);
    const used = placeholdersOf(settings.body);
    const each = async (name: string, read: (image: (typeof images)[number]) => Promise<string>) =>
      used.has(name) ? Promise.all(images.map(read)) : [];
    const base64 = await each(used.has('images_base64') ? 'images_base64' : 'image_base64', (image) =>
      this.images.base64(image),
    );
    const uris = await each(used.has('images_data_uri') ? 'images_data_uri' : 'image_data_uri', (image) =>
      this.images.dataUri(image),
    );
    const body = fillTemplate(settings.body, {
      model: this.remoteModel,
      template,
      labels,
      texts,
      image_base64: base64[0],
      image_data_uri: uris[0],
      image_sha256: images[0].sha256,
      images_base64: base64,
      images_data_uri: uris,
    });
    const answer = await this.postJson(settings.path, body, {
      ...options,
      headers: settings.headers,
      content: { images: images.length, texts },
      maxResponseBytes: bytesOfScores([...labels, ...texts], images.length),
    });
    const sent = [...(used.has('labels') ? [labels] : []), ...(used.has('texts') ? [texts] : [])];
    return { logits: this.readScores(answer, sent, images.length), billed: null };
  }

  /** @param sent the lists that an answer may call the classes by */
  private readScores(answer: unknown, sent: string[][], imageCount: number): Float32Array {
    const { result, score_floor: floor } = this.connection.settings;
    const scores = select(answer, result.scores);
    const expected = imageCount * sent[0].length;
    if (scores.length !== expected) {
      throw this.invalidAnswer(`${result.scores} leads to ${scores.length} values, not ${expected}.`);
    }
    if (!isNumbers(scores)) throw this.invalidAnswer(`${result.scores} leads to something that is no finite number.`);
    const ordered = result.labels === undefined ? scores : this.inOrder(scores, select(answer, result.labels), sent);
    const logits =
      result.kind === 'probabilities' ? toLogProbabilities(ordered, floor, sent[0].length) : Float32Array.from(ordered);
    if (typeof logits === 'string') throw this.invalidAnswer(logits);
    const unusable = unusableLogits(logits);
    if (unusable !== undefined) throw this.invalidAnswer(`${result.scores}: ${unusable}`);
    return logits;
  }

  private inOrder(scores: number[], labels: unknown[], sent: string[][]): number[] {
    if (!isLabels(labels)) {
      throw this.invalidAnswer(`${this.connection.settings.result.labels} leads to something that is no label.`);
    }
    const asked = sent.find((list) => list.includes(String(labels[0]))) ?? sent[0];
    const ordered: number[] = [];
    for (let start = 0; start < scores.length; start += asked.length) {
      const row = matchLabels(
        labels.slice(start, start + asked.length).map(String),
        scores.slice(start, start + asked.length),
        asked,
      );
      if (typeof row === 'string') throw this.invalidAnswer(row);
      ordered.push(...row);
    }
    return ordered;
  }
}

function isNumbers(values: unknown[]): values is number[] {
  return values.every((value) => typeof value === 'number' && Number.isFinite(value));
}

function isLabels(values: unknown[]): values is (string | number)[] {
  return values.every((value) => typeof value === 'string' || typeof value === 'number');
}

function braced(name: string): string {
  return `{{${name}}}`;
}
