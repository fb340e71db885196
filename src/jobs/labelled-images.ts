import type { Dataset, DatasetImage } from '../datasets/dataset.js';
import type { DatasetStore } from '../datasets/dataset-store.js';
import { splitValidation } from '../datasets/validation-split.js';
import { InvalidRequestError } from '../errors.js';
import type { ProviderImage } from '../providers/provider.js';
import type { JobMethod } from './job-request.js';
import { takeShots } from './shots.js';

/** The images a job trains on and validates with, in a fixed order, each with its class. */
export interface LabelledImages {
  classes: string[];
  /** Of each class; null where it has none. */
  descriptions: (string | null)[];
  training: LabelledSet;
  validation: LabelledSet;
}

export interface LabelledSet {
  images: ProviderImage[];
  /** [images], index into classes */
  labels: Int32Array;
}

/** What a job's request says of the choice. */
export type ImageChoice = Pick<JobMethod['craft'], 'validation_fraction' | 'shots'>;

/** Opens a job's files and chooses its images; `close` gives the files back. */
export async function openLabelledImages(
  datasets: DatasetStore,
  job: { trainingFileId: string; validationFileId: string | null; seed: bigint },
  choice: ImageChoice,
): Promise<{ images: LabelledImages; close(): Promise<void> }> {
  const opened: Dataset[] = [];
  const close = async () => {
    await Promise.all(opened.map((dataset) => dataset.close()));
  };
  const open = async (id: string) => {
    const dataset = await datasets.open(id);
    opened.push(dataset);
    return dataset;
  };
  try {
    const training = await open(job.trainingFileId);
    const validation = job.validationFileId ? await open(job.validationFileId) : null;
    return { images: chooseImages(training, validation, choice, Number(job.seed)), close };
  } catch (error) {
    await close();
    throw error;
  }
}

/**
 * Chooses the job's images: validation comes from the validation file, else from the training file's validation split,
 * else from a seeded, stratified share of the training images. Of what is left for training, `shots` of each class.
 * @throws InvalidRequestError when the two files do not go together
 */
export function chooseImages(
  training: Dataset,
  validation: Dataset | null,
  { validation_fraction: fraction, shots }: ImageChoice,
  seed: number,
): LabelledImages {
  const whole = training.images.filter((image) => image.split === 'train');
  const ownValidation = training.images.filter((image) => image.split === 'validation');
  if (fraction !== undefined && (validation || ownValidation.length > 0)) {
    throw new InvalidRequestError({
      code: 'validation_given_twice',
      param: 'method.craft.validation_fraction',
      message:
        'The job has validation images already (a validation_file or a validation/ folder). Leave validation_fraction out.',
    });
  }
  const split = fraction === undefined ? { train: whole, validation: ownValidation } : setAside(whole, fraction, seed);
  const chosen = shots === undefined ? split.train : takeShots(split.train, shots, seed);
  return {
    classes: training.classes,
    descriptions: training.descriptions,
    training: toSet(training, chosen),
    validation: validation ? validationSet(training, validation, whole) : toSet(training, split.validation),
  };
}

function setAside(images: DatasetImage[], fraction: number, seed: number) {
  const split = splitValidation(images, fraction, seed);
  if (split.validation.length > 0) return split;
  throw new InvalidRequestError({
    code: 'validation_fraction_too_small',
    param: 'method.craft.validation_fraction',
    message: `A share of ${fraction} sets no image of any class aside. Raise it, or leave it out.`,
  });
}

/** All images of the validation file, whatever folder they lie in; its classes are matched by name. */
function validationSet(training: Dataset, validation: Dataset, trainingImages: DatasetImage[]): LabelledSet {
  const classIndex = new Map(training.classes.map((name, index) => [name, index]));
  const unknown = validation.classes.filter((name) => !classIndex.has(name));
  if (unknown.length > 0) {
    throw new InvalidRequestError({
      code: 'validation_classes_unknown',
      param: 'validation_file',
      message: `The validation file has classes that the training file has not: ${unknown.slice(0, 5).join(', ')}. Name them alike.`,
    });
  }
  const trained = new Set(trainingImages.map((image) => image.sha256));
  const leaked = validation.images.find((image) => trained.has(image.sha256));
  if (leaked) {
    throw new InvalidRequestError({
      code: 'validation_leak',
      param: 'validation_file',
      message: `Validation image ${leaked.name} is a training image too. Remove it from one of the files.`,
    });
  }
  const set = toSet(validation, validation.images);
  const labels = set.labels.map((label) => classIndex.get(validation.classes[label]) ?? -1);
  return { images: set.images, labels };
}

function toSet(dataset: Dataset, images: DatasetImage[]): LabelledSet {
  return {
    images: images.map((image) => ({
      sha256: image.sha256,
      size: image.length,
      bytes: () => dataset.read(image),
    })),
    labels: Int32Array.from(images, (image) => image.classIndex),
  };
}
