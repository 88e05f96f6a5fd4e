/** Removes what a test made in the shared Cassandra. */
import { Client } from 'cassandra-driver'
import { services } from './services.js'

export async function dropKeyspace (keyspace: string): Promise<void> {
  const { cassandra } = services()
  if (cassandra === null) return
  const client = new Client({ contactPoints: [cassandra.contactPoint], localDataCenter: cassandra.dataCenter, socketOptions: { readTimeout: 30_000 } })
  try {
    await client.execute(`DROP KEYSPACE IF EXISTS ${keyspace}`)
  } finally {
    await client.shutdown()
  }
}
