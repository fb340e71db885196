import type { Dataset } from '../datasets/dataset.js';
import { InvalidRequestError } from '../errors.js';
import { imageTooLarge } from '../providers/call-limits.js';
import type { ProviderInfo } from '../providers/provider-row.js';
import type { LabelledImages, LabelledSet } from './labelled-images.js';

/** @throws InvalidRequestError naming an image that no request to the provider has room for */
export function requireSetsFit(
  { name: providerName }: ProviderInfo,
  images: LabelledImages,
  files: { training: Dataset; validation: Dataset | null },
  room: { largest: number; sizes(set: Pick<LabelledSet, 'images'>): number[] },
): void {
  const fits = { ...room, providerName };
  requireImagesFit(images.training, { ...fits, file: files.training, param: 'training_file' });
  requireImagesFit(images.validation, {
    ...fits,
    ...(files.validation
      ? { file: files.validation, param: 'validation_file' }
      : { file: files.training, param: 'training_file' }),
  });
}

function requireImagesFit(
  { images }: Pick<LabelledSet, 'images'>,
  where: {
    providerName: string;
    largest: number;
    sizes(set: Pick<LabelledSet, 'images'>): number[];
    file: Dataset;
    param: string;
  },
): void {
  const { providerName, largest, sizes, file, param } = where;
  const sent = sizes({ images });
  const tooLarge = sent.findIndex((size) => size > largest);
  if (tooLarge < 0) return;
  const name = file.images.find(({ sha256 }) => sha256 === images[tooLarge].sha256)?.name;
  throw new InvalidRequestError({ ...imageTooLarge(providerName, `Image ${name}`, sent[tooLarge], largest), param });
}
