/** What a keyspace takes on Cassandra's disk once everything is flushed and compacted. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { PrivateCassandra } from '../../test/support/private-cassandra.js'
import { directoryBytes } from './process-meter.js'

/** Bytes of the keyspace's tables after `nodetool flush` and `nodetool compact`: data files with their indexes and filters. */
export async function keyspaceBytes (cassandra: PrivateCassandra, keyspace: string): Promise<number> {
  await cassandra.nodeTool(0, 'flush', keyspace)
  await cassandra.nodeTool(0, 'compact', keyspace)
  return await directoryBytes(join(cassandra.dataDirectory(0), keyspace))
}

/** Bytes by table (the part of the directory's name before the id). */
export async function tableBytes (cassandra: PrivateCassandra, keyspace: string): Promise<ReadonlyMap<string, number>> {
  const directory = join(cassandra.dataDirectory(0), keyspace)
  const bytes = new Map<string, number>()
  for (const name of await readdir(directory)) bytes.set(name.slice(0, name.lastIndexOf('-')), await directoryBytes(join(directory, name)))
  return bytes
}
