import { z } from 'zod';
import type { FileRecord } from '../../datasets/dataset-store.js';
import { listOf, toUnixSeconds, unixSeconds } from './common.js';

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
    report: z
      .record(z.string(), z.unknown())
      .describe('Counts per class and split, and each rejected entry with its reason.'),
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
