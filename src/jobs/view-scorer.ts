import type { Score, ScoringRequest } from '../craft/trainer.js';
import { InvalidRequestError } from '../errors.js';
import { NOTHING } from '../providers/amounts.js';
import { imageTooLarge, largestMadeBytes, sentSizes } from '../providers/call-limits.js';
import { mapConcurrent } from '../providers/map-concurrent.js';
import type { ProviderImage, QueryAmounts } from '../providers/provider.js';
import { ImageViews } from '../views/image-views.js';
import type { Transform } from '../views/transforms.js';
import { nthView } from '../views/view-order.js';
import { economyCalls } from './economy-plan.js';
import type { EmbeddedImages } from './embedded-images.js';
import type { GenerationBudget } from './generation-budget.js';
import type { LabelledImages } from './labelled-images.js';
import { MeteredScorer, type MeteredScorerOptions } from './metered-scorer.js';
import { amountsOf, type TrainingPlan } from './plan.js';
import type { ScoredImages } from './scored-images.js';

export interface ViewScorerOptions
  extends Omit<MeteredScorerOptions, 'images' | 'embedded' | 'requireBudget' | 'scored'> {
  images: LabelledImages;
  scored: NonNullable<MeteredScorerOptions['scored']>;
  plan: TrainingPlan;
  budget: GenerationBudget;
  /** Brings the embeddings of images, of a provider that embeds. */
  bring(images: ScoredImages, generation: number, further: QueryAmounts): Promise<EmbeddedImages | null>;
}

/** Views that are made at the same time. */
const MADE_AT_ONCE = 8;

/**
 * Answers the requests of strategy economy: in each generation a further view of every training image, or a transform of it;
 * of the first view the validation images, too. A row of what is answered holds the class logits, then the scores of the probe labels, or the
 * embedding of the image where the provider embeds.
 */
export class ViewScorer {
  private readonly views: ImageViews;

  constructor(private readonly options: ViewScorerOptions) {
    this.views = new ImageViews(options.plan.distinctWindows ? 'distinct' : 'drawn');
  }

  forGeneration(generation: number): Score {
    let opened: Promise<Score> | null = null;
    return async (request, receive) => {
      const { transforms = ['identity'], asksOnce } = this.options.plan;
      const view = nthView(request.view ?? 0, asksOnce ? transforms : []);
      opened ??= this.open(generation, { view, transform: transforms[request.transform ?? 0] });
      await (await opened)(request, receive);
    };
  }

  private async open(generation: number, what: { view: number; transform: Transform }): Promise<Score> {
    const { options } = this;
    const { budget, provider, texts, plan } = options;
    const images: ScoredImages = {
      training: { images: await this.viewed(options.images.training.images, what) },
      validation: { images: what.view === 0 ? await this.viewed(options.images.validation.images, what) : [] },
    };
    const sizes = (set: 'training' | 'validation') => sentSizes(provider.capabilities, images[set].images);
    const sets = { trainingImages: sizes('training'), validationImages: sizes('validation') };
    const calls = economyCalls({ ...sets, texts, calls: plan });
    const further = generation === 1 ? amountsOf(calls.training, provider, texts) : NOTHING;
    const embedded = await options.bring(images, generation, further);
    if (!embedded) await budget.requireCalls(generation, [...calls.training, ...calls.validation]);
    const scorer = new MeteredScorer({
      ...options,
      ...{ images, embedded },
      // Of a provider that embeds: the texts, which are embedded once for all views. Others are asked once for each view.
      scored: embedded ? options.scored : null,
      requireBudget: async () => {},
    }).forGeneration(generation);
    return embedded ? withEmbeddings(scorer, embedded, texts.classes.names.length) : scorer;
  }

  private async viewed(
    images: ProviderImage[],
    { view, transform }: { view: number; transform: Transform },
  ): Promise<ProviderImage[]> {
    const { provider, plan } = this.options;
    const mostBytes = largestMadeBytes(provider.capabilities, plan.imageCalls ?? plan);
    const viewed: ProviderImage[] = new Array(images.length);
    const indices = images.map((_, index) => index);
    await mapConcurrent(indices, MADE_AT_ONCE, async (index) => {
      viewed[index] = await this.views.view(images[index], view, transform, mostBytes);
    });
    const tooLarge = viewed.find(({ size }) => size > mostBytes);
    if (!tooLarge) return viewed;
    const what = `View ${view} (${transform}) of an image`;
    throw new InvalidRequestError({
      ...imageTooLarge(provider.name, what, tooLarge.size, mostBytes),
      param: 'training_file',
    });
  }
}

/** Class logits and embedding of each image in one row. */
function withEmbeddings(score: Score, embedded: EmbeddedImages, classCount: number): Score {
  // One after another: the texts that the first request has embedded serve the second one.
  let last: Promise<void> = Promise.resolve();
  const inTurn = (work: () => Promise<void>) => {
    const turn = last.then(work);
    last = turn.catch(() => {});
    return turn;
  };
  return (request: ScoringRequest, receive) =>
    inTurn(() =>
      score(request, (prompt, logits) => {
        const embeddings = embedded.of(request.imageSet);
        const { embeddingWidth: width } = embedded;
        const count = embeddings.length / width;
        const rows = new Float32Array(count * (classCount + width));
        for (let i = 0; i < count; i++) {
          rows.set(logits.subarray(i * classCount, (i + 1) * classCount), i * (classCount + width));
          rows.set(embeddings.subarray(i * width, (i + 1) * width), i * (classCount + width) + classCount);
        }
        receive(prompt, rows);
      }),
    );
}
