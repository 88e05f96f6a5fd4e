/**
 * One Cassandra node outside a container: its configuration files and its command line. Small on purpose (heap, memtables,
 * caches), and true in what matters to the server: commits are synced before they are acknowledged (`commitlog_sync: group`;
 * the default `periodic` is not stable storage). Nothing is written outside the node's directory.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Module access that Cassandra and its tools need (its own jvm17-server.options says the same). */
const exported = ['java.base/jdk.internal.misc', 'java.base/java.lang.ref', 'java.management.rmi/com.sun.jmx.remote.internal.rmi', 'java.rmi/sun.rmi.registry', 'java.rmi/sun.rmi.server', 'java.sql/java.sql', 'jdk.unsupported/sun.misc']
const opened = ['io', 'lang', 'lang.module', 'lang.reflect', 'net', 'nio', 'util', 'util.concurrent', 'util.concurrent.atomic'].map(name => `java.base/java.${name}`)
  .concat(['loader', 'ref', 'reflect', 'math', 'module', 'util.jar'].map(name => `java.base/jdk.internal.${name}`), 'java.base/sun.nio.ch', 'jdk.management/com.sun.management.internal', 'java.rmi/sun.rmi.transport.tcp')
const moduleAccess = [...exported.flatMap(name => ['--add-exports', `${name}=ALL-UNNAMED`]), ...opened.flatMap(name => ['--add-opens', `${name}=ALL-UNNAMED`])]

/** The data directory of a node, which holds a folder for each keyspace. */
export function cassandraDataDirectory (directory) {
  return join(directory, 'data')
}

function yaml ({ directory, address, nativePort, storagePort, seeds, clusterName }) {
  const path = name => JSON.stringify(join(directory, name))
  return `cluster_name: ${clusterName}
num_tokens: 16
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
dynamic_snitch: false
listen_address: ${address}
rpc_address: ${address}
storage_port: ${storagePort}
native_transport_port: ${nativePort}
seed_provider: [{class_name: org.apache.cassandra.locator.SimpleSeedProvider, parameters: [{seeds: "${seeds.join(',')}"}]}]
authenticator: AllowAllAuthenticator
data_file_directories: [${JSON.stringify(cassandraDataDirectory(directory))}]
commitlog_directory: ${path('commitlog')}
saved_caches_directory: ${path('saved_caches')}
hints_directory: ${path('hints')}
cdc_raw_directory: ${path('cdc_raw')}
commitlog_sync: group
commitlog_sync_group_window: 1ms
commitlog_segment_size: 32MiB
commitlog_total_space: 512MiB
storage_compatibility_mode: NONE
sstable: {selected_format: bti}
auto_snapshot: false
memtable_heap_space: 128MiB
memtable_offheap_space: 128MiB
memtable_allocation_type: offheap_objects
memtable_flush_writers: 1
concurrent_compactors: 1
compaction_throughput: 0MiB/s
key_cache_size: 8MiB
counter_cache_size: 1MiB
file_cache_size: 64MiB
networking_cache_size: 32MiB
internode_application_send_queue_reserve_global_capacity: 64MiB
internode_application_receive_queue_reserve_global_capacity: 64MiB
`
}

const logback = `<configuration>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender"><encoder><pattern>%-5level %date{ISO8601} %logger{0} %msg%n</pattern></encoder></appender>
  <root level="WARN"><appender-ref ref="OUT"/></root>
</configuration>
`

/**
 * Writes the node's files and returns how to run it.
 * @param {{ directory: string, java: string, jars: string, address: string, nativePort: number, storagePort: number, jmxPort: number | null,
 *   seeds: readonly string[], heapMb: number, ringDelayMs: number, clusterName: string }} node `seeds`: host:port of the first nodes
 */
export function prepareCassandraNode (node) {
  const { directory, java, jars, jmxPort, heapMb, ringDelayMs } = node
  const temporary = join(directory, 'tmp')
  mkdirSync(temporary, { recursive: true })
  writeFileSync(join(directory, 'cassandra.yaml'), yaml(node))
  writeFileSync(join(directory, 'logback.xml'), logback)
  const args = [
    `-Xms${heapMb}m`, `-Xmx${heapMb}m`, '-XX:+UseG1GC', '-XX:MaxGCPauseMillis=100', `-XX:MaxDirectMemorySize=${Math.max(256, heapMb)}m`, '-XX:+ExitOnOutOfMemoryError', '-XX:-UsePerfData', '-Xss256k',
    ...moduleAccess,
    `-Dcassandra.config=file://${join(directory, 'cassandra.yaml')}`, `-Dcassandra.storagedir=${directory}`, `-Dlogback.configurationFile=${join(directory, 'logback.xml')}`,
    // Native libraries are unpacked here rather than in the system's folders, where a killed node would leave them.
    `-Djava.io.tmpdir=${temporary}`, `-Djna.tmpdir=${temporary}`, `-Duser.home=${directory}`,
    '-Dcassandra-foreground=yes', '-Djdk.attach.allowAttachSelf=true', '-Djava.net.preferIPv4Stack=true',
    '-Dcassandra.skip_wait_for_gossip_to_settle=0', `-Dcassandra.ring_delay_ms=${ringDelayMs}`,
    ...(jmxPort === null ? [] : [`-Dcassandra.jmx.local.port=${jmxPort}`]),
    '-cp', join(jars, '*'), 'org.apache.cassandra.service.CassandraDaemon'
  ]
  return { command: java, args, cwd: directory, logFile: join(directory, 'log') }
}

/** The command line of nodetool for a node that has JMX. */
export function nodeToolCommand ({ directory, java, jars, jmxPort }, args) {
  return {
    command: java,
    args: [
      '-Xmx96m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-XX:-UsePerfData', ...moduleAccess,
      `-Djava.io.tmpdir=${join(directory, 'tmp')}`, `-Duser.home=${directory}`, `-Dcassandra.config=file://${join(directory, 'cassandra.yaml')}`, `-Dcassandra.storagedir=${directory}`, `-Dlogback.configurationFile=${join(directory, 'logback.xml')}`,
      '-cp', join(jars, '*'), 'org.apache.cassandra.tools.NodeTool', '-h', '127.0.0.1', '-p', String(jmxPort), ...args
    ]
  }
}
