import { Prisma } from '../db/client.js';
import { ConflictError } from '../errors.js';

/** Keeps provider and files from being deleted between their check and the job's start. @throws ConflictError */
export async function holdInputs(tx: Prisma.TransactionClient, providerId: string, fileIds: string[]): Promise<void> {
  const providers = await tx.$queryRaw<unknown[]>`
    SELECT 1 FROM providers WHERE id = ${providerId} AND deleted_at IS NULL FOR SHARE`;
  const files = await tx.$queryRaw<unknown[]>`
    SELECT 1 FROM files WHERE id IN (${Prisma.join(fileIds)}) AND deleted_at IS NULL FOR SHARE`;
  if (providers.length === 1 && files.length === new Set(fileIds).size) return;
  throw new ConflictError({
    code: 'input_deleted',
    param: null,
    message: 'The provider or a file of this job was deleted. Upload or register it again and create a new job.',
  });
}
