/**
 * Where webhooks may go: not into the network that the server stands in (SSRF). Private, loopback, link-local, carrier-grade NAT,
 * multicast, documentation and reserved ranges (IANA special-purpose registries, RFC 6890) are refused in whatever form they are
 * written: the host is read by the WHATWG URL parser (which turns `0x7f.1` and `2130706433` into 127.0.0.1), names are looked up, and
 * every connection looks at the address that it really goes to (`lookup`), so that a name that changes its mind gains nothing.
 */
import { lookup as systemLookup, type LookupAddress } from 'node:dns'
import { BlockList, isIP, type LookupFunction } from 'node:net'
import { TwinfoldError } from '../core/errors.js'

const refused4 = [
  '0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24', '192.0.2.0/24', '192.31.196.0/24', '192.52.193.0/24',
  '192.88.99.0/24', '192.168.0.0/16', '192.175.48.0/24', '198.18.0.0/15', '198.51.100.0/24', '203.0.113.0/24', '224.0.0.0/4', '240.0.0.0/4'
]
/** Of global unicast (2000::/3), the only IPv6 range that is public at all. Teredo and 6to4 carry IPv4 addresses. */
const refused6 = ['2001::/23', '2001:db8::/32', '2002::/16', '2620:4f:8000::/48', '3fff::/20']

export interface AddressGuardOptions {
  /** Every address may be reached. */
  readonly allowPrivate: boolean
  /** Ranges that may be reached though they are private, as in 10.1.0.0/16. */
  readonly allow: readonly string[]
  /** As dns.lookup; default that. */
  readonly lookup?: typeof systemLookup
}

type Family = 'ipv4' | 'ipv6'

/** @throws Error where it is no range in CIDR form */
export function addRange (list: BlockList, range: string): void {
  const [address, bits, more] = range.split('/')
  const family = isIP(address)
  if (family === 0 || more !== undefined || (bits !== undefined && !/^[0-9]{1,3}$/.test(bits)) || Number(bits ?? 0) > (family === 4 ? 32 : 128)) throw new Error(`'${range}' is no address range; write 10.1.0.0/16 or fd00::/8`)
  list.addSubnet(address, Number(bits ?? (family === 4 ? 32 : 128)), family === 4 ? 'ipv4' : 'ipv6')
}

function listOf (ranges: readonly string[]): BlockList {
  const list = new BlockList()
  for (const range of ranges) addRange(list, range)
  return list
}

/** IPv4 that is written as IPv6 (::ffff:127.0.0.1, RFC 4291 section 2.5.5.2) as what it is. */
function unmapped (address: string): { readonly address: string, readonly family: Family } {
  if (isIP(address) === 4) return { address, family: 'ipv4' }
  // The URL parser writes the shortest form, hexadecimal at its end.
  const short = new URL(`http://[${address.split('%')[0]}]`).hostname.slice(1, -1)
  const match = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(short)
  if (match === null) return { address: short, family: 'ipv6' }
  const [high, low] = match.slice(1).map(part => parseInt(part, 16))
  return { address: `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`, family: 'ipv4' }
}

export class AddressGuard {
  readonly #allowPrivate: boolean
  readonly #allowed: BlockList
  readonly #refused4 = listOf(refused4)
  readonly #refused6 = listOf(refused6)
  readonly #global6 = listOf(['2000::/3'])
  readonly #systemLookup: typeof systemLookup
  readonly stats = { refused: 0 }

  constructor ({ allowPrivate, allow, lookup = systemLookup }: AddressGuardOptions) {
    this.#allowPrivate = allowPrivate
    this.#allowed = listOf(allow)
    this.#systemLookup = lookup
  }

  /** May this address (an IPv4 or IPv6 literal) be connected to? */
  permits (literal: string): boolean {
    if (isIP(literal) === 0) return false
    if (this.#allowPrivate) return true
    const { address, family } = unmapped(literal)
    if (this.#allowed.check(address, family)) return true
    if (family === 'ipv4') return !this.#refused4.check(address, family)
    return this.#global6.check(address, family) && !this.#refused6.check(address, family)
  }

  /**
   * The URL of a webhook, checked and normalised; its name is looked up.
   * @throws TwinfoldError `invalid_field` (field `url`)
   */
  async checkUrl (text: string): Promise<string> {
    const refuse = (detail: string): TwinfoldError => new TwinfoldError('invalid_field', `'url' ${detail}`, { field: 'url' })
    let url: URL
    try { url = new URL(text) } catch { throw refuse('is no absolute URL') }
    if (url.protocol !== 'https:' && url.protocol !== 'http:') throw refuse('must begin with https:// or http://')
    if (url.username !== '' || url.password !== '') throw refuse('must not hold a user name or password; use headers')
    url.hash = ''
    const host = hostOf(url)
    const addresses = isIP(host) === 0 ? await this.#resolve(host).catch(() => { throw refuse('names a host that cannot be found') }) : [host]
    if (!addresses.every(address => this.permits(address))) {
      this.stats.refused++
      // The same words for every range: whoever may make webhooks must not map the network with them.
      throw refuse('leads to an address that is not public')
    }
    return url.href
  }

  async #resolve (host: string): Promise<string[]> {
    return await new Promise((resolve, reject) => {
      this.#systemLookup(host, { all: true }, (error, addresses) => {
        if (error !== null) reject(error)
        else resolve(addresses.map(({ address }) => address))
      })
    })
  }

  /** For `net.connect`: gives only addresses that may be connected to, and fails where one of the name's may not. Literals do not come here. */
  readonly lookup: LookupFunction = (host, options, done) => {
    this.#systemLookup(host, { ...options, all: true }, (error, addresses: LookupAddress[]) => {
      if (error !== null) { done(error, '', 0); return }
      if (addresses.length === 0 || !addresses.every(({ address }) => this.permits(address))) {
        this.stats.refused++
        done(Object.assign(new Error('the host leads to an address that is not public'), { code: 'EADDRREFUSED' }), '', 0)
        return
      }
      if (options.all === true) done(null, addresses)
      else done(null, addresses[0].address, addresses[0].family)
    })
  }
}

/** The host of a URL, IPv6 without its brackets. */
export function hostOf (url: URL): string {
  return url.hostname.startsWith('[') ? url.hostname.slice(1, -1) : url.hostname
}
