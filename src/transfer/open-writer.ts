/** The writer that an export asks for. */
import type { ExportTask } from '../../workers/transfer-protocol.js'
import type { ExportColumn } from './export-task.js'
import type { ExportWriter, Write } from './export-writer.js'
import { LongParquetWriter, TierParquetWriter, WideParquetWriter } from './parquet-writer.js'
import { CsvWriter, NdjsonWriter } from './text-writers.js'

/** @param columns of a wide file, in order of metric */
export function openWriter ({ format, shape, times, tier }: ExportTask, columns: readonly ExportColumn[], write: Write): ExportWriter {
  switch (format) {
    case 'csv': return new CsvWriter(write, times, shape === 'wide' && tier === 'raw' ? columns.map(({ metric }) => metric) : null, tier !== 'raw')
    case 'ndjson': return new NdjsonWriter(write, times)
    case 'parquet': return tier !== 'raw' ? new TierParquetWriter(write) : shape === 'wide' ? new WideParquetWriter(write, columns) : new LongParquetWriter(write)
  }
}
