# Twinfold in a container. Embedded storage unless TWINFOLD_STORE says otherwise; docker-compose.yml is the cluster profile.
FROM node:20.20.2-bookworm-slim AS build
WORKDIR /build
COPY package.json package-lock.json ./
RUN npm ci
COPY tsconfig.json ./
COPY src src
COPY workers workers
COPY simulators simulators
RUN npm run build
# Optional packages stay: the native CRC of the journal is one of them.
RUN npm ci --omit=dev

FROM node:20.20.2-bookworm-slim
ENV NODE_ENV=production \
    UV_THREADPOOL_SIZE=16 \
    TWINFOLD_HOST=0.0.0.0 \
    TWINFOLD_DATA=/var/lib/twinfold
RUN install --directory --owner=node --group=node --mode=0750 /var/lib/twinfold
WORKDIR /opt/twinfold
COPY --from=build /build/node_modules node_modules
COPY --from=build /build/dist dist
COPY package.json ./
COPY schemas schemas
# What --demo replays.
COPY simulators/solar-plant simulators/solar-plant
USER node
VOLUME /var/lib/twinfold
EXPOSE 1883 8080 8883
# An orderly stop ends what is in flight; a killed container loses nothing that was acknowledged.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.TWINFOLD_HTTP_PORT || 8080}/readyz`).then(answer => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "--enable-source-maps", "dist/src/main.js"]
