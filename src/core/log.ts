/** The logger as a port; pino satisfies it. Every line about a tenant carries `tenant`. */
export interface Log {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

export const silentLog: Log = { debug () {}, info () {}, warn () {}, error () {} }
