/** Messages between the server and the process of the embedded analytics engine. */

/** How the engine's process is started: one JSON argument. */
export interface EngineStart {
  /** The engine's data; one process at a time. */
  readonly directory: string
  /** Unix socket to listen on, in a directory that is the owner's alone; both are removed when the process ends. */
  readonly socketPath: string
  readonly memoryBytesMax: number
  readonly threads: number
}

export type EngineMessage =
  /** It answers. */
  | { readonly kind: 'ready' }
  /** It will never: chdb is not there. */
  | { readonly kind: 'missing', readonly reason: string }
  /** It does not now: another process has the directory, or the data cannot be read. */
  | { readonly kind: 'failed', readonly reason: string }
