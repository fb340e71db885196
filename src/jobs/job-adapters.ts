import { type AdapterDescription, encodeAdapter } from '../adapters/adapter-file.js';
import { readsAnswers } from '../adapters/adapter-head.js';
import type { AdapterWeights } from '../craft/trainer-interface.js';
import type { ClassTexts, Provider } from '../providers/provider.js';
import { inOrder, type JobMetrics } from './generation-metrics.js';
import type { JobMethod } from './job-request.js';
import type { TrainingPlan } from './plan.js';
import { answerSetOf, type ScoredPrompts } from './scored-prompts.js';

/** Of the generation that an adapter is of; of the untrained model there are none. */
export type AdapterMetrics = JobMetrics | { generation: 0 };

/** Makes adapters of what a job has trained. */
export class JobAdapters {
  constructor(
    private readonly job: {
      method: JobMethod;
      plan: TrainingPlan;
      classes: ClassTexts;
      provider: Provider;
      seed: number;
    },
    private readonly scored: ScoredPrompts,
  ) {}

  /** @param textEmbeddings [C, D] of the prompt, where they are known already */
  async file(
    weights: AdapterWeights,
    metrics: AdapterMetrics,
    textEmbeddings?: Float32Array,
  ): Promise<Uint8Array<ArrayBuffer>> {
    const embeddings = textEmbeddings ?? (await this.textEmbeddingsOf(weights));
    return encodeAdapter(weights, this.describe(weights, metrics), embeddings);
  }

  /** What an adapter's file says of the job that made it. */
  describe({ head }: AdapterWeights, metrics: AdapterMetrics): AdapterDescription {
    const { method, plan, classes, provider, seed } = this.job;
    // The first ones only, where training ended before its first view was asked about in all of them.
    const transforms = readsAnswers(head) ? plan.transforms?.slice(0, head.inputs.transforms) : undefined;
    const hyperparameters = plan.strategy === 'economy' ? { strategy: plan.strategy } : method.craft.hyperparameters;
    return {
      classes: classes.names,
      ...(classes.descriptions ? { descriptions: classes.descriptions } : {}),
      ...(plan.probes?.length ? { probes: plan.probes } : {}),
      ...(transforms && transforms.length > 1 ? { transforms } : {}),
      ...(provider.kind === 'embedding' ? { textSpace: provider.textSpace } : {}),
      provider: { name: provider.name, protocol: provider.protocol, remoteModel: provider.remoteModel },
      hyperparameters: { ...hyperparameters, seed },
      metrics: inOrder(metrics),
    };
  }

  /** Of an adapter whose provider embeds: with them, a prediction costs no text. */
  private async textEmbeddingsOf({ prompt }: AdapterWeights): Promise<Float32Array | undefined> {
    const { provider } = this.job;
    if (provider.kind !== 'embedding' || prompt.space !== 'text') return undefined;
    return (await this.scored.find(answerSetOf(provider, 'training'), [prompt.template])).get(prompt.template);
  }
}
