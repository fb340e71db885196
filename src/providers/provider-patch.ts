import { z } from 'zod';
import type { Provider as ProviderRow } from '../db/generated/client.js';
import { InvalidRequestError } from '../errors.js';
import {
  type Protocol,
  type ProviderPatch,
  type ProviderSettings,
  parseRemoteModel,
  parseSettings,
} from './provider-record.js';

/** What a change of a provider may say, which depends on the record that it changes. */

/**
 * Refuses a patch that does not go with its record.
 * @returns the settings that it brings, completed; undefined where it brings none
 * @throws InvalidRequestError naming the field
 */
export function checkPatch(row: ProviderRow, patch: ProviderPatch): ProviderSettings | undefined {
  const protocol = row.protocol as Protocol;
  refuseCredentialsElsewhere(row, patch);
  if (patch.remote_model !== undefined) {
    const model = patch.remote_model;
    inTermsOf('invalid_remote_model', 'remote_model', `Models of the protocol ${protocol} are named so.`, () =>
      parseRemoteModel(protocol, model),
    );
  }
  if (patch.settings === undefined) return undefined;
  return inTermsOf('invalid_settings', 'settings', `Settings are those of the protocol ${protocol}.`, () =>
    parseSettings(protocol, patch.settings),
  );
}

/** Makes what zod complains of an error that names the field. */
function inTermsOf<T>(code: string, field: string, hint: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof z.ZodError)) throw error;
    const [issue] = error.issues;
    const unknown = issue.code === 'unrecognized_keys' ? issue.keys.slice(0, 1) : [];
    throw new InvalidRequestError({
      code,
      param: [field, ...issue.path, ...unknown].join('.'),
      message: `${issue.message} ${hint}`,
    });
  }
}

/** @throws InvalidRequestError when stored credentials would be sent to a host that they were not given for */
function refuseCredentialsElsewhere(row: ProviderRow, patch: ProviderPatch): void {
  if (row.credentials === null || patch.credentials !== undefined || patch.base_url === undefined) return;
  if (new URL(patch.base_url).origin === new URL(row.baseUrl).origin) return;
  throw new InvalidRequestError({
    code: 'credentials_required',
    param: 'credentials',
    message:
      'The stored credentials are not sent to another host. Send credentials together with base_url, or "credentials": null if the new host needs none.',
  });
}
