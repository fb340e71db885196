import { createHash, randomInt } from 'node:crypto';
import sharp from 'sharp';
import type { Database } from '../db/client.js';
import { ImageEmbeddings } from '../embeddings/image-embeddings.js';
import { HEADER_LENGTH_FIELD } from '../formats/open-inference-binary.js';
import type { Ledger } from '../ledger/ledger.js';
import type { Prompts, Provider, ProviderImage, QueryAmounts } from '../providers/provider.js';
import { type Billing, ProviderCallError } from '../providers/provider-call-error.js';
import type { ProviderStore } from '../providers/provider-store.js';
import { startContextOf } from '../providers/start-context.js';
import type { TransportResponse } from '../providers/transport-response.js';
import { scoreImages } from './metered-scoring.js';
import { type LabelScore, rankLabels } from './ranking.js';

/** What one query told of a provider. */
export interface ProviderTest {
  /** Of each request, as it came: of a provider that embeds one for the image and one for the texts. */
  answers: { status: number; milliseconds: number; body: string }[];
  /** What was made of it; null where that failed. */
  understood: { logits: number[]; predictions: LabelScore[]; usage: QueryAmounts } | null;
  error: { code: string; message: string; billing: Billing } | null;
}

export interface TestQuery {
  image: ProviderImage;
  labels: string[];
  /** The provider's own prompt where it is left out. */
  template?: string;
  apiKeyId: string | null;
}

const SHOWN_CHARACTERS = 2000;
const SIDE = 64;

/** Sends one counted query and tells what came back and what was understood. A provider's failure is an answer, too. */
export async function testProvider(
  services: { database: Database; ledger: Ledger; providers: ProviderStore; worker: string },
  providerId: string,
  { image, labels, template, apiKeyId }: TestQuery,
): Promise<ProviderTest> {
  const answers: ProviderTest['answers'] = [];
  const provider = await services.providers.connectApart(providerId, (answer, milliseconds) => {
    answers.push({ status: answer.status, milliseconds: Math.round(milliseconds), body: shown(answer) });
  });
  try {
    const { logits, usage } = await scoreImages(services.ledger, new ImageEmbeddings(services.database), {
      provider,
      prompt: promptOf(provider, template),
      classes: { names: labels },
      classesParam: 'labels',
      images: [image],
      accountId: providerId,
      purpose: 'test',
      guard: { kind: 'live_provider' },
      worker: services.worker,
      apiKeyId,
      attempts: 1,
    });
    const [predictions] = rankLabels(logits, labels, labels.length);
    return { answers, understood: { logits: [...logits], predictions, usage }, error: null };
  } catch (error) {
    if (!(error instanceof ProviderCallError)) throw error;
    const { code, message, billing } = error;
    return { answers, understood: null, error: { code, message, billing } };
  } finally {
    await provider.close();
  }
}

/** A red disc on white, of a shade that no provider has seen before. */
export async function testImage(): Promise<ProviderImage> {
  const shade = { r: 200 + randomInt(56), g: randomInt(40), b: randomInt(40) };
  const disc = Buffer.alloc(SIDE * SIDE * 3, 255);
  for (let y = 0; y < SIDE; y++) {
    for (let x = 0; x < SIDE; x++) {
      if (Math.hypot(x - SIDE / 2, y - SIDE / 2) < SIDE / 3) disc.set([shade.r, shade.g, shade.b], (y * SIDE + x) * 3);
    }
  }
  const bytes = await sharp(disc, { raw: { width: SIDE, height: SIDE, channels: 3 } })
    .png()
    .toBuffer();
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  return { sha256, size: bytes.length, bytes: async () => bytes };
}

function promptOf({ capabilities }: Provider, template: string | undefined): Prompts {
  if (template === undefined && capabilities.promptSpace === 'soft') {
    return { kind: 'context', count: 1, values: startContextOf(capabilities) };
  }
  return { kind: 'template', count: 1, templates: [template ?? capabilities.defaultTemplate] };
}

/** The start of an answer; of one with binary tensors, its text. */
function shown({ headers, body }: TransportResponse): string {
  const length = Number(headers[HEADER_LENGTH_FIELD]);
  const text = (Number.isSafeInteger(length) ? body.subarray(0, length) : body).toString('utf8');
  const rest = Number.isSafeInteger(length) ? ` and ${body.length - length} bytes of tensors` : '';
  const start = text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text;
  return `${start.replaceAll('\0', '\ufffd')}${rest}`;
}
