/** A Lua script by its SHA-1. Redis knows it after `loadScripts`; where it forgot (restart), it is sent in full once. */
import { createHash } from 'node:crypto'
import type { Redis } from 'ioredis'

export interface Script {
  readonly text: string
  readonly sha1: string
}

export function script (...parts: readonly string[]): Script {
  const text = parts.join('\n')
  return { text, sha1: createHash('sha1').update(text).digest('hex') }
}

export type Argument = string | number | Buffer

/** Strings in the answer are buffers. */
export async function call (client: Redis, { text, sha1 }: Script, key: string, args: readonly Argument[]): Promise<unknown> {
  try {
    return await client.callBuffer('EVALSHA', sha1, 1, key, ...args)
  } catch (error) {
    if (!(error as Error).message.startsWith('NOSCRIPT')) throw error
    return await client.callBuffer('EVAL', text, 1, key, ...args)
  }
}

export async function loadScripts (client: Redis, scripts: readonly Script[]): Promise<void> {
  await Promise.all(scripts.map(async ({ text }) => await client.script('LOAD', text)))
}
