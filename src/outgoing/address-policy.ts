import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';
import { type Address, type AddressCategory, categoryOf, destinationsOf } from './address-category.js';
import { AddressNotAllowedError } from './address-not-allowed-error.js';

const WORDS = ['loopback', 'private', 'link-local', 'any'] as const;

type Rule = { text: string; port?: number } & (
  | { kind: 'word'; word: (typeof WORDS)[number] }
  | { kind: 'network'; network: [Address, number] }
  | { kind: 'host'; host: string }
);

/** An entry of the operator's list cannot be read. */
export class AddressPolicyError extends Error {
  override readonly name = 'AddressPolicyError';
}

/**
 * Which addresses this service may call: all public ones, and what the operator allows beyond (CRAFT_ALLOWED_NETWORKS).
 * Immutable.
 */
export class AddressPolicy {
  private constructor(private readonly rules: Rule[]) {}

  /**
   * @param list comma-separated: an IP address, a CIDR range, a host name, each but ranges also with `:port`, or one of
   *   the words loopback, private (RFC 1918, 100.64.0.0/10, fc00::/7), link-local, any
   * @throws AddressPolicyError naming the entry
   */
  static parse(list = ''): AddressPolicy {
    const entries = list.split(',').map((entry) => entry.trim());
    return new AddressPolicy(entries.filter((entry) => entry !== '').map(parseRule));
  }

  /** This policy, and what answers at the host and port of `url` besides. */
  withOrigin(url: string): AddressPolicy {
    const parsed = new URL(url);
    return new AddressPolicy([...this.rules, parseRule(`${parsed.hostname}:${portOf(parsed)}`)]);
  }

  /** The list that {@link parse} makes this policy of. */
  toString(): string {
    return this.rules.map(({ text }) => text).join(',');
  }

  /**
   * @param host as the URL has it, a name or the address itself
   * @param address one that `host` resolves to
   * @throws AddressNotAllowedError
   */
  check(host: string, port: number, address: string): void {
    const refusal = this.refusal(host, port, address);
    if (refusal) throw refusal;
  }

  /** As {@link check}, for callers who have others to try. @returns null where the address may be called */
  refusal(host: string, port: number, address: string): AddressNotAllowedError | null {
    const parsed = ipaddr.parse(address);
    if (this.allowsHost(host, port) || this.allowsAddress(parsed, port)) return null;
    const barred = destinationsOf(parsed).find((destination) => !this.allowsDestination(destination, port));
    if (!barred) return null;
    const inside = barred === parsed ? '' : ` (it leads to ${barred.toString()})`;
    const what = `${IN_WORDS[categoryOf(barred)]}${inside}`;
    const finding = isIP(bare(host)) ? `${bare(host)} is ${what}` : `${host} resolves to ${address}, ${what}`;
    return new AddressNotAllowedError(
      `${finding}. The operator of this service can allow it with CRAFT_ALLOWED_NETWORKS.`,
    );
  }

  private allowsHost(host: string, port: number): boolean {
    const name = normalName(host);
    return this.rules.some((rule) => rule.kind === 'host' && rule.host === name && portMatches(rule, port));
  }

  private allowsDestination(address: Address, port: number): boolean {
    return categoryOf(address) === 'public' || this.allowsAddress(address, port);
  }

  private allowsAddress(address: Address, port: number): boolean {
    const category = categoryOf(address);
    return this.rules.some((rule) => {
      if (rule.kind === 'word') return rule.word === 'any' || rule.word === category;
      return rule.kind === 'network' && portMatches(rule, port) && inNetwork(address, rule.network);
    });
  }
}

const IN_WORDS: Record<AddressCategory, string> = {
  public: 'a public address',
  loopback: 'a loopback address',
  private: 'a private address',
  'link-local': 'a link-local address',
  unspecified: 'an unspecified address',
  multicast: 'a multicast address',
  reserved: 'a reserved address',
};

/** The port that a URL leads to. */
export function portOf(url: { port: string; protocol: string }): number {
  return url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port);
}

/** A URL's host without the brackets around an IPv6 address. */
export function bare(host: string): string {
  return host.startsWith('[') && host.endsWith(']') ? host.slice(1, -1) : host;
}

function normalName(host: string): string {
  return host.toLowerCase().replace(/\.$/, '');
}

function portMatches(rule: Rule, port: number): boolean {
  return rule.port === undefined || rule.port === port;
}

function inNetwork(address: Address, [network, bits]: [Address, number]): boolean {
  return address.kind() === network.kind() && address.match(network, bits);
}

const HOST_NAME =
  /^(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*(?!\d+$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/;

function parseRule(text: string): Rule {
  const word = WORDS.find((known) => known === text.toLowerCase());
  if (word) return { kind: 'word', word, text };
  if (ipaddr.isValidCIDR(text) && isIP(text.split('/')[0])) {
    return { kind: 'network', network: ipaddr.parseCIDR(text), text };
  }
  const { host, port } = splitPort(text);
  const address = bare(host);
  if (isIP(address)) {
    const parsed = ipaddr.parse(address);
    return { kind: 'network', network: [parsed, parsed.kind() === 'ipv4' ? 32 : 128], port, text };
  }
  const name = normalName(host);
  if (HOST_NAME.test(name)) return { kind: 'host', host: name, port, text };
  throw new AddressPolicyError(
    `"${text}" is no address, range or host. Use for example 10.1.2.3, 10.0.0.0/8, [fd00::1]:8000, models.internal, models.internal:8000, or one of: ${WORDS.join(', ')}.`,
  );
}

function splitPort(text: string): { host: string; port?: number } {
  if (isIP(text)) return { host: text };
  const [, host, digits] = /^(.*):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  return host !== undefined && port >= 1 && port <= 65535 ? { host, port } : { host: text };
}
