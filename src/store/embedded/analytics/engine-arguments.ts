/**
 * What the embedded engine is started with: bounded memory, few threads, small caches. Merges and mutations have two threads as the
 * engine comes (`background_pool_size`); nothing is cached but marks and index marks.
 */
import type { EngineStart } from '../../../../workers/analytics-engine-protocol.js'

const markCacheBytes = 64 * 1024 ** 2
const indexMarkCacheBytes = 16 * 1024 ** 2
/** Of the memory, one statement may take so much; what it sorts and groups beyond half of that goes to disk. */
const statementShare = 0.6

export function engineArguments ({ memoryBytesMax, threads }: Pick<EngineStart, 'memoryBytesMax' | 'threads'>): readonly string[] {
  const statementBytes = Math.floor(memoryBytesMax * statementShare)
  const settings: Readonly<Record<string, number>> = {
    max_server_memory_usage: memoryBytesMax,
    mark_cache_size: markCacheBytes,
    index_mark_cache_size: indexMarkCacheBytes,
    uncompressed_cache_size: 0,
    max_thread_pool_size: 200,
    max_memory_usage: statementBytes,
    max_bytes_before_external_group_by: Math.floor(statementBytes / 2),
    max_bytes_before_external_sort: Math.floor(statementBytes / 2),
    max_threads: threads,
    max_insert_threads: 1
  }
  return Object.entries(settings).map(([name, value]) => `--${name}=${value}`)
}
