import { InvalidRequestError } from '../errors.js';
import type { CollectedImage } from './image-collector.js';
import { quoted } from './label-text.js';
import type { ClassEntry } from './labels.js';
import type { DatasetImage, Split } from './manifest.js';
import { compareCodePoints, type DatasetReport, type EntryLog } from './report.js';

export interface Curated {
  classes: string[];
  descriptions: (string | null)[];
  images: DatasetImage[];
  report: DatasetReport;
}

/**
 * Turns the images that decode into a data set: brings them into a fixed order, removes those that would spoil training
 * or its measurement, and checks that enough is left.
 *
 * - The same image under two labels is rejected in every place: nobody can tell which label is right.
 * - A training image among the validation images is rejected there.
 * - Further copies in the same class and split are kept, so that counts are those of the folders, and counted.
 * @param classes with the folder or label each comes from
 * @throws InvalidRequestError
 */
export function curate(
  collected: CollectedImage[],
  classes: ClassEntry[],
  log: EntryLog,
  maxReportedRejections: number,
): Curated {
  const ordered = [...classes].sort((a, b) => compareCodePoints(a.label, b.label));
  const classIndex = new Map(ordered.map(({ label }, index) => [label, index]));
  // They were collected in the order they happened to be decoded in.
  const arrived = [...collected].sort((a, b) => compareCodePoints(a.entry, b.entry));
  const kept = withoutSpoilers(arrived, log);
  const images = nameEmbedded(kept)
    .map(({ label, split, name, sha256, offset, length, width, height, mediaType }) => ({
      split,
      classIndex: classIndex.get(label)!,
      name,
      sha256,
      offset,
      length,
      width,
      height,
      mediaType,
    }))
    .sort(byPosition);
  log.rejected.sort((a, b) => compareCodePoints(a.entry, b.entry) || compareCodePoints(a.reason, b.reason));

  const perClass = ordered.map(() => ({ train: 0, validation: 0 }));
  for (const image of images) perClass[image.classIndex][image.split]++;
  const total = (split: Split) => perClass.reduce((sum, counts) => sum + counts[split], 0);
  requireClasses(ordered, perClass, images.length, log);
  return {
    classes: ordered.map(({ label }) => label),
    descriptions: ordered.map(({ description }) => description),
    images,
    report: {
      images: { train: total('train'), validation: total('validation') },
      classes: ordered.map(({ label, source, description }, index) => ({
        name: label,
        ...(source === label ? {} : { folder: source }),
        ...(description === null ? {} : { description }),
        ...perClass[index],
      })),
      rejected: log.rejected.slice(0, maxReportedRejections),
      rejected_count: log.rejected.length,
      ignored_count: log.ignored,
      duplicates: log.duplicates,
      notes: log.notes,
    },
  };
}

function withoutSpoilers(collected: CollectedImage[], log: EntryLog): CollectedImage[] {
  const copies = new Map<string, CollectedImage[]>();
  for (const image of collected) {
    const group = copies.get(image.sha256);
    if (group) group.push(image);
    else copies.set(image.sha256, [image]);
  }
  const kept: CollectedImage[] = [];
  for (const group of copies.values()) {
    const training = group.find(({ split }) => split === 'train');
    let trainingCopies = 0;
    let validationCopies = 0;
    for (const image of group) {
      const other = group.find(({ label }) => label !== image.label);
      if (other) {
        log.reject(
          image.entry,
          'conflicting_label',
          `The same image is labelled ${quoted(image.label)} here and ${quoted(other.label)} at ${quoted(other.entry)}. Keep the right one.`,
        );
      } else if (image.split === 'validation' && training) {
        log.reject(
          image.entry,
          'validation_leak',
          `The same image is used for training at ${quoted(training.entry)}. Validate with other images.`,
        );
      } else {
        kept.push(image);
        if (image.split === 'train') trainingCopies++;
        else validationCopies++;
      }
    }
    log.duplicates += Math.max(0, trainingCopies - 1) + Math.max(0, validationCopies - 1);
  }
  return kept;
}

/** Names embedded and fetched images by their checksum, so that the order of lines does not matter. */
function nameEmbedded(images: CollectedImage[]): (CollectedImage & { name: string })[] {
  const copies = new Map<string, number>();
  return images.map((image) => {
    if (image.name !== null) return { ...image, name: image.name };
    const copy = (copies.get(image.sha256) ?? 0) + 1;
    copies.set(image.sha256, copy);
    return { ...image, name: copy === 1 ? image.sha256 : `${image.sha256}-${copy}` };
  });
}

function byPosition(a: DatasetImage, b: DatasetImage): number {
  return compareCodePoints(a.split, b.split) || a.classIndex - b.classIndex || compareCodePoints(a.name, b.name);
}

function requireClasses(
  classes: { label: string; source: string }[],
  counts: { train: number; validation: number }[],
  accepted: number,
  log: EntryLog,
): void {
  if (classes.length < 2) {
    throw refused(
      'too_few_classes',
      `The data set has ${classes.length === 0 ? 'no class' : `only the class ${quoted(classes[0].label)}`}; at least 2 are ` +
        'needed. Put the images of each class into a folder of its own.',
      log,
    );
  }
  const empty = classes.filter((_, index) => counts[index].train === 0);
  if (empty.length === classes.length && counts.some(({ validation }) => validation > 0)) {
    throw refused(
      'class_without_images',
      'All usable images are of the validation split. A file needs training images; that which a job names as its ' +
        'validation_file, too, and all its images validate: name no split in it.',
      log,
    );
  }
  if (empty.length > 0) {
    const names = empty.slice(0, 5).map(({ source }) => quoted(source));
    throw refused(
      'class_without_images',
      `${empty.length === 1 ? 'A class has' : `${empty.length} classes have`} no usable training image: ` +
        `${names.join(', ')}${empty.length > 5 ? ', …' : ''}. Add images, or remove the class.`,
      log,
    );
  }
  if (log.rejected.length > accepted) {
    throw refused(
      'too_many_rejected',
      'More than half of the images were rejected; that is hardly the data set you mean.',
      log,
    );
  }
}

function refused(code: string, message: string, log: EntryLog): InvalidRequestError {
  const [first] = log.rejected;
  const rejected = log.rejected.length;
  const hint = first
    ? ` ${rejected} ${rejected === 1 ? 'entry was' : 'entries were'} rejected, such as ${quoted(first.entry)}: ${first.message}`
    : '';
  return new InvalidRequestError({
    code,
    param: 'file',
    message: [message + hint, ...log.notes].join(' '),
  });
}
