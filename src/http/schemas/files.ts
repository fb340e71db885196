import { z } from 'zod';
import type { FileRecord } from '../../datasets/dataset-store.js';
import { REJECTION_REASONS } from '../../datasets/report.js';
import { listOf, toUnixSeconds, unixSeconds } from './common.js';

const reportSchema = z
  .looseObject({
    images: z.object({ train: z.int(), validation: z.int() }),
    classes: z
      .array(
        z.object({
          name: z.string(),
          folder: z.string().optional().describe('The folder or the label as written, where the name is another.'),
          description: z.string().optional(),
          train: z.int(),
          validation: z.int(),
        }),
      )
      .describe('In label order.'),
    rejected: z
      .array(
        z.object({
          entry: z.string().describe('Its name in the ZIP, or its line in a list.'),
          reason: z.enum(REJECTION_REASONS),
          message: z.string(),
        }),
      )
      .describe('The first ones; rejected_count counts them all.'),
    rejected_count: z.int(),
    ignored_count: z
      .int()
      .describe('Entries that are no part of a data set: system files, loose documents, test images.'),
    duplicates: z.int().describe('Further copies of an image in the same class and split.'),
    notes: z.array(z.string()),
  })
  .describe('Counts per class and split, and each rejected entry with its reason.');

export const fileSchema = z
  .object({
    id: z.string(),
    object: z.literal('file'),
    bytes: z.int(),
    created_at: unixSeconds,
    filename: z.string(),
    purpose: z.string(),
    status: z.literal('processed'),
    classes: z.array(z.string()).describe('Class names in label order.'),
    descriptions: z.array(z.string().nullable()).describe('Of each class, in the same order; null where it has none.'),
    report: reportSchema,
  })
  .meta({ id: 'File' });

export const fileListSchema = listOf(fileSchema);

export const deletedFileSchema = z.object({ id: z.string(), object: z.literal('file'), deleted: z.literal(true) });

export function toFile(record: FileRecord): z.output<typeof fileSchema> {
  return {
    id: record.id,
    object: 'file',
    bytes: record.bytes,
    created_at: toUnixSeconds(record.createdAt),
    filename: record.filename,
    purpose: record.purpose,
    status: 'processed',
    classes: record.classes,
    descriptions: record.descriptions,
    report: { ...record.report },
  };
}
