/** The circuit breaker that the embedded profile's ClickHouse shares: it lives beside the ports. */
export { Dependency, type DependencyOptions } from '../dependency.js'
