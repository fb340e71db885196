import { createHash } from 'node:crypto';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CraftError } from '../errors.js';

/** The upload as it came. */
export const CONTENT_FILE = 'content';
/** The validated images, one after the other. */
export const IMAGES_FILE = 'images.bin';
/** Classes and images; written last. */
const MANIFEST_FILE = 'manifest.json';

const VERSION = 1;

export type Split = 'train' | 'validation';

export interface DatasetImage {
  split: Split;
  /** Index into the data set's classes. */
  classIndex: number;
  /** Where it lay in the ZIP; for an image embedded in a list or fetched, a name made from its checksum. Unique in the set. */
  name: string;
  /** Of the image file's bytes. */
  sha256: string;
  offset: number;
  length: number;
  width: number;
  height: number;
  mediaType: string;
}

export interface Manifest {
  /** Display names in label order. */
  classes: string[];
  /** Of each class; null where it has none. */
  descriptions: (string | null)[];
  images: DatasetImage[];
  /** Size of the images file. */
  imageBytes: number;
}

type StoredManifest = Omit<Manifest, 'descriptions'> & Partial<Pick<Manifest, 'descriptions'>>;

/** A stored data set cannot be read: its files were changed, damaged or removed behind the server's back. */
export class DatasetCorruptError extends CraftError {
  constructor(why: string, cause?: unknown) {
    super(500, 'server_error', {
      code: 'dataset_corrupt',
      message: `A stored data set cannot be read: ${why}. Restore the data directory, or upload the file again.`,
      cause,
    });
  }
}

export async function writeManifest(folder: string, manifest: Manifest): Promise<void> {
  const file = await open(join(folder, MANIFEST_FILE), 'wx');
  try {
    const stored: StoredManifest = { ...manifest, descriptions: storedDescriptions(manifest) };
    await file.writeFile(JSON.stringify({ version: VERSION, checksum: checksum(stored), ...stored }));
    await file.sync();
  } finally {
    await file.close();
  }
}

/** @throws DatasetCorruptError */
export async function readManifest(folder: string): Promise<Manifest> {
  let stored: StoredManifest & { version?: unknown; checksum?: unknown };
  try {
    stored = JSON.parse(await readFile(join(folder, MANIFEST_FILE), 'utf8'));
  } catch (cause) {
    throw new DatasetCorruptError('its manifest is missing or damaged', cause);
  }
  if (stored?.version !== VERSION) {
    throw new DatasetCorruptError(`its manifest has version ${String(stored?.version)}, this server reads ${VERSION}`);
  }
  if (stored.checksum !== checksum(stored)) throw new DatasetCorruptError('its manifest does not match its checksum');
  const { classes, descriptions = classes.map(() => null), images, imageBytes } = stored;
  return { classes, descriptions, images, imageBytes };
}

/** Left out where no class has one: so were all manifests before there were descriptions. */
function storedDescriptions({ descriptions }: Manifest): Manifest['descriptions'] | undefined {
  return descriptions.some((description) => description !== null) ? descriptions : undefined;
}

function checksum({ classes, descriptions, images, imageBytes }: StoredManifest): string {
  const parts = [classes, images, imageBytes, ...(descriptions ? [descriptions] : [])];
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}
