import type { Dataset } from '../datasets/dataset.js';
import type { DatasetStore } from '../datasets/dataset-store.js';
import { quoted } from '../datasets/label-text.js';
import type { DatasetImage } from '../datasets/manifest.js';
import { splitValidation } from '../datasets/validation-split.js';
import type { Job } from '../db/generated/client.js';
import { InvalidRequestError } from '../errors.js';
import { distinctImages } from '../providers/distinct-images.js';
import type { ProviderImage } from '../providers/provider.js';
import type { JobMethod } from './job-request.js';
import type { TrainingPlan } from './plan.js';
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

/** What decides the choice. */
export interface ImageChoice extends Pick<JobMethod['craft'], 'validation_fraction' | 'shots'> {
  /** Of images that are the same, byte for byte, one is chosen. */
  asksOnce?: boolean;
  /** false: no validation images, though the files have some. */
  validates?: boolean;
}

/** Opens a job's files and chooses the images of its plan; `close` gives the files back. */
export async function openLabelledImages(
  datasets: DatasetStore,
  job: Pick<Job, 'trainingFileId' | 'validationFileId' | 'seed' | 'method' | 'plan'>,
): Promise<{ images: LabelledImages; close(): Promise<void> }> {
  const { craft } = job.method as unknown as JobMethod;
  const { asksOnce, validationImages } = job.plan as unknown as TrainingPlan;
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
    const choice = { ...craft, asksOnce, validates: validationImages > 0 };
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
  { validation_fraction: fraction, shots, asksOnce = false, validates = true }: ImageChoice,
  seed: number,
): LabelledImages {
  // A data set has no image in two classes.
  const distinct = (images: DatasetImage[]) => (asksOnce ? distinctImages(images).distinct : images);
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
  const train = distinct(split.train);
  const chosen = shots === undefined ? train : takeShots(train, shots, seed);
  const set = validation
    ? validationSet(training, validation, whole, distinct)
    : toSet(training, distinct(split.validation));
  return {
    classes: training.classes,
    descriptions: training.descriptions,
    training: toSet(training, chosen),
    validation: validates ? set : { images: [], labels: new Int32Array(0) },
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
function validationSet(
  training: Dataset,
  validation: Dataset,
  trainingImages: DatasetImage[],
  distinct: (images: DatasetImage[]) => DatasetImage[],
): LabelledSet {
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
  const leaked = validation.images.filter((image) => trained.has(image.sha256));
  if (leaked.length > 0) throw validationLeak(leaked);
  const set = toSet(validation, distinct(validation.images));
  const labels = set.labels.map((label) => classIndex.get(validation.classes[label]) ?? -1);
  return { images: set.images, labels };
}

function validationLeak(leaked: DatasetImage[]): InvalidRequestError {
  const [{ name, sha256 }] = leaked;
  // An image that came without a name has its checksum for one.
  const which = name.startsWith(sha256) ? `the image with SHA-256 ${sha256}` : quoted(name);
  return new InvalidRequestError({
    code: 'validation_leak',
    param: 'validation_file',
    message:
      leaked.length === 1
        ? `A validation image is a training image too: ${which}. Remove it from one of the files.`
        : `${leaked.length} validation images are training images too, such as ${which}. Remove each from one of the files.`,
  });
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
