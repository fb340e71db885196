import { z } from 'zod';
import { pageQuery } from './common.js';

const MEMBER = /^metadata\[(.*)\]$/s;

/** Brings metadata[key]=value together, as OpenAI's SDKs write it. */
function gatherMetadata(query: unknown): unknown {
  const entries = Object.entries(query as Record<string, unknown>);
  const members = entries.flatMap(([name, value]) => {
    const key = MEMBER.exec(name)?.[1];
    return key === undefined ? [] : [[key, value]];
  });
  const rest = Object.fromEntries(entries.filter(([name]) => !MEMBER.test(name)));
  if (members.length > 0) return { ...rest, metadata: Object.fromEntries(members) };
  // The SDKs write null as nothing.
  return rest.metadata === 'null' || rest.metadata === '' ? { ...rest, metadata: null } : rest;
}

export const jobListQuery = z.preprocess(
  gatherMetadata,
  pageQuery.extend({
    metadata: z
      .record(z.string().max(64), z.string().max(512), { error: 'Write it as metadata[key]=value, or metadata=null.' })
      .nullable()
      .optional()
      .describe(
        'Only jobs with these entries in their metadata: metadata[key]=value. metadata=null: those without any.',
      ),
  }),
);
