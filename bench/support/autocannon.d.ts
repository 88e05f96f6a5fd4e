/** The part of autocannon that the benches use; it comes without types. */
declare module 'autocannon' {
  interface Options {
    readonly url: string
    readonly connections: number
    readonly duration: number
    readonly headers?: Readonly<Record<string, string>>
    readonly requests?: readonly { readonly method: string, readonly path: string }[]
  }
  interface Result {
    readonly latency: { readonly p50: number, readonly p99: number, readonly max: number }
    readonly requests: { readonly average: number, readonly total: number }
    readonly non2xx: number
    readonly errors: number
  }
  export default function autocannon (options: Options): Promise<Result>
}
