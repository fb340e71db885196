import { createHash } from 'node:crypto';
import { InvalidRequestError } from '../errors.js';
import type { Candidate } from './candidate.js';
import { decodeBase64, isDataUri, isRemoteUrl } from './data-uri.js';
import type { ImageFetcher } from './image-fetcher.js';
import { shownUrl } from './image-url.js';
import { writtenLabel } from './label-text.js';
import type { ClassTable } from './labels.js';
import type { DatasetLimits } from './limits.js';
import type { ListedImage } from './listed-image.js';
import type { Split } from './manifest.js';
import type { EntryLog } from './report.js';

/** What all candidates of an upload share. */
export interface CandidateContext {
  limits: DatasetLimits;
  classes: ClassTable;
  log: EntryLog;
  /** Null where images are not fetched from URLs. */
  fetcher: ImageFetcher | null;
}

/** A list among others. */
export interface ListPlace {
  /** Said after a line's number, for example ` of train/metadata.csv`. */
  suffix: string;
  /** The split of an entry that does not say it. */
  splitOf(name: string | null): Split | 'test';
  /** The file that an entry names; null when there is none of that name. */
  find(item: ListedImage): { name: string; load: (() => Promise<Buffer>) | null };
}

type Located = Pick<Candidate, 'entry' | 'name' | 'fetchKey'> & { load: Candidate['load'] | null };

/** Turns what lists name into candidates. */
export class ListedCandidates {
  private readonly claims = new Set<string>();
  private testEntries = 0;

  constructor(private readonly context: CandidateContext) {}

  /**
   * The candidates of one list; classes go to the table and missing images to the log.
   * @throws InvalidRequestError
   */
  async *read(items: AsyncGenerator<ListedImage>, place: ListPlace): AsyncGenerator<Candidate> {
    for await (const item of items) {
      const located = this.locate(item, place);
      const split = item.split ?? place.splitOf(located.name);
      if (split === 'test') {
        this.testEntries++;
        continue;
      }
      const label = this.addClass(item, `Line ${item.line}${place.suffix}`);
      const { entry, name, fetchKey, load } = located;
      if (!load) {
        this.context.log.reject(
          entry,
          'image_missing',
          `Line ${item.line}${place.suffix} lists it, but the ZIP has no such entry.`,
        );
      } else if (this.isNew(name ?? fetchKey, label, split)) {
        yield { entry, name, fetchKey, label, split, load };
      }
    }
  }

  /** Notes what was left out. Call it after the last list. */
  finish(): void {
    const { testEntries: count } = this;
    if (count === 0) return;
    this.context.log.ignored += count;
    this.context.log.notes.push(
      `${count === 1 ? 'The entry of the test split was' : `The ${count} entries of the test split were`} left out: ` +
        'training must not see test images.',
    );
  }

  private locate(item: ListedImage, place: ListPlace): Located {
    const { image, line } = item;
    const { limits } = this.context;
    const entry = `line ${line}${place.suffix}`;
    if (isDataUri(image)) {
      return { entry, name: null, fetchKey: null, load: async () => decodeBase64(image, limits) };
    }
    if (isRemoteUrl(image)) {
      const fetcher = this.requireFetcher(`Line ${line}${place.suffix}`);
      const fetchKey = createHash('sha256').update(image.trim()).digest('base64');
      return { entry: `${entry} (${shownUrl(image)})`, name: null, fetchKey, load: () => fetcher.load(image) };
    }
    const { name, load } = place.find(item);
    return { entry: name, name, fetchKey: null, load };
  }

  private requireFetcher(where: string): ImageFetcher {
    const { fetcher } = this.context;
    if (fetcher) return fetcher;
    throw new InvalidRequestError({
      code: 'image_url_not_supported',
      param: 'file',
      message: `${where}: images are not fetched from URLs. Embed the image as a data URI, or put it into a ZIP.`,
    });
  }

  private addClass({ label, description }: ListedImage, where: string): string {
    const { classes } = this.context;
    const written = writtenLabel(label);
    const name = classes.add(written, written, where);
    if (description !== null) classes.describe(written, description, where);
    return name;
  }

  /** A file or URL that is listed again for the same class and split is no further image; embedded ones all are. */
  private isNew(source: string | null, label: string, split: Split): boolean {
    if (source === null) return true;
    const claim = createHash('sha256')
      .update(JSON.stringify([source, label, split]))
      .digest('base64');
    if (this.claims.has(claim)) {
      this.context.log.duplicates++;
      return false;
    }
    this.claims.add(claim);
    return true;
  }
}
