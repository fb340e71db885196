import { isIP, type LookupFunction } from 'node:net';
import { buildConnector } from 'undici';
import { type AddressPolicy, portOf } from './address-policy.js';
import { allowedAddresses, type Resolve, resolveBySystem } from './resolve-host.js';

/**
 * Opens connections for undici to addresses that the policy allows. A name is resolved here, and the connection is made
 * to the very addresses that were checked, so that a name which changes its address in between gains nothing. A
 * connection that is refused fails with AddressNotAllowedError.
 * @param timeout milliseconds for resolving, connecting and the TLS handshake together
 */
export function checkedConnector(
  policy: AddressPolicy,
  timeout: number,
  resolve: Resolve = resolveBySystem,
): buildConnector.connector {
  // Node tells a lookup the name alone; rules may be about one port.
  const byPort = new Map<number, buildConnector.connector>();
  const connectorTo = (port: number) => {
    const known = byPort.get(port);
    if (known) return known;
    const connector = buildConnector({ timeout, lookup: checkedLookup(policy, port, resolve) });
    byPort.set(port, connector);
    return connector;
  };
  return (target, callback) => {
    const port = portOf(target);
    // No lookup is made for an address.
    const refusal = isIP(target.hostname) ? policy.refusal(target.hostname, port, target.hostname) : null;
    if (refusal) process.nextTick(callback, refusal, null);
    else connectorTo(port)(target, callback);
  };
}

function checkedLookup(policy: AddressPolicy, port: number, resolve: Resolve): LookupFunction {
  return (hostname, options, callback) => {
    const wanted = options.family === 'IPv4' ? 4 : options.family === 'IPv6' ? 6 : (options.family ?? 0);
    allowedAddresses(policy, hostname, port, resolve).then(
      (allowed) => {
        const found = allowed.filter(({ family }) => wanted === 0 || family === wanted);
        if (found.length === 0) callback(notFound(hostname), []);
        else if (options.all) callback(null, found);
        else callback(null, found[0].address, found[0].family);
      },
      (error) => callback(error, []),
    );
  };
}

function notFound(hostname: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${hostname} has no address.`), { code: 'ENOTFOUND' });
}
