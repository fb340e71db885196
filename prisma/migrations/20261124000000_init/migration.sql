-- CreateTable
CREATE TABLE "api_keys" (
    "id" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "hash" BYTEA NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "revoked_at" TIMESTAMPTZ(3),

    CONSTRAINT "api_keys_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "idempotent_requests" (
    "api_key_id" TEXT NOT NULL,
    "key" TEXT NOT NULL,
    "request_hash" BYTEA NOT NULL,
    "status" INTEGER,
    "response" JSONB,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "idempotent_requests_pkey" PRIMARY KEY ("api_key_id","key")
);

-- CreateTable
CREATE TABLE "files" (
    "id" TEXT NOT NULL,
    "filename" TEXT NOT NULL,
    "purpose" TEXT NOT NULL,
    "bytes" BIGINT NOT NULL,
    "sha256" TEXT NOT NULL,
    "classes" JSONB NOT NULL,
    "report" JSONB NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "deleted_at" TIMESTAMPTZ(3),

    CONSTRAINT "files_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "providers" (
    "id" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "protocol" TEXT NOT NULL,
    "base_url" TEXT NOT NULL,
    "remote_model" TEXT NOT NULL,
    "credentials" BYTEA,
    "settings" JSONB NOT NULL,
    "capabilities" JSONB NOT NULL,
    "requests_per_second" DOUBLE PRECISION,
    "concurrency" INTEGER NOT NULL,
    "images_per_request" INTEGER NOT NULL,
    "prompts_per_request" INTEGER NOT NULL,
    "timeout_ms" INTEGER NOT NULL,
    "price_per_request_nano_usd" BIGINT NOT NULL,
    "price_per_image_query_nano_usd" BIGINT NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updated_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "deleted_at" TIMESTAMPTZ(3),

    CONSTRAINT "providers_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "jobs" (
    "id" TEXT NOT NULL,
    "status" TEXT NOT NULL,
    "provider_id" TEXT NOT NULL,
    "training_file_id" TEXT NOT NULL,
    "validation_file_id" TEXT,
    "suffix" TEXT,
    "seed" BIGINT NOT NULL,
    "metadata" JSONB,
    "method" JSONB NOT NULL,
    "plan" JSONB NOT NULL,
    "planned_generations" INTEGER NOT NULL,
    "generation" INTEGER NOT NULL DEFAULT 0,
    "current_metrics" JSONB,
    "best_metrics" JSONB,
    "compute" TEXT,
    "epoch" INTEGER NOT NULL DEFAULT 0,
    "stop_reason" TEXT,
    "error_code" TEXT,
    "error_message" TEXT,
    "error_param" TEXT,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "started_at" TIMESTAMPTZ(3),
    "finished_at" TIMESTAMPTZ(3),

    CONSTRAINT "jobs_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "job_events" (
    "id" BIGSERIAL NOT NULL,
    "job_id" TEXT NOT NULL,
    "level" TEXT NOT NULL,
    "type" TEXT NOT NULL,
    "message" TEXT NOT NULL,
    "data" JSONB,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "job_events_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "checkpoints" (
    "id" TEXT NOT NULL,
    "job_id" TEXT NOT NULL,
    "generation" INTEGER NOT NULL,
    "metrics" JSONB NOT NULL,
    "weights" BYTEA NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "checkpoints_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "training_states" (
    "job_id" TEXT NOT NULL,
    "generation" INTEGER NOT NULL,
    "epoch" INTEGER NOT NULL,
    "state" BYTEA NOT NULL,
    "updated_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "training_states_pkey" PRIMARY KEY ("job_id")
);

-- CreateTable
CREATE TABLE "adapters" (
    "id" TEXT NOT NULL,
    "job_id" TEXT,
    "provider_id" TEXT NOT NULL,
    "classes" JSONB NOT NULL,
    "hyperparameters" JSONB NOT NULL,
    "metrics" JSONB NOT NULL,
    "weights" BYTEA NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "deleted_at" TIMESTAMPTZ(3),

    CONSTRAINT "adapters_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "ledger_accounts" (
    "id" TEXT NOT NULL,
    "provider_id" TEXT NOT NULL,
    "prompt_evaluations_limit" BIGINT,
    "prompt_evaluations_used" BIGINT NOT NULL DEFAULT 0,
    "prompt_evaluations_reserved" BIGINT NOT NULL DEFAULT 0,
    "image_queries_limit" BIGINT,
    "image_queries_used" BIGINT NOT NULL DEFAULT 0,
    "image_queries_reserved" BIGINT NOT NULL DEFAULT 0,
    "requests_limit" BIGINT,
    "requests_used" BIGINT NOT NULL DEFAULT 0,
    "requests_reserved" BIGINT NOT NULL DEFAULT 0,
    "cost_micro_usd_limit" BIGINT,
    "cost_micro_usd_used" BIGINT NOT NULL DEFAULT 0,
    "cost_micro_usd_reserved" BIGINT NOT NULL DEFAULT 0,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "ledger_accounts_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "ledger_reservations" (
    "id" BIGSERIAL NOT NULL,
    "account_id" TEXT NOT NULL,
    "provider_id" TEXT NOT NULL,
    "purpose" TEXT NOT NULL,
    "state" TEXT NOT NULL,
    "generation" INTEGER,
    "chunk" INTEGER,
    "attempt" INTEGER NOT NULL,
    "epoch" INTEGER,
    "worker" TEXT NOT NULL,
    "prompt_evaluations" BIGINT NOT NULL,
    "image_queries" BIGINT NOT NULL,
    "requests" BIGINT NOT NULL,
    "cost_micro_usd" BIGINT NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "closed_at" TIMESTAMPTZ(3),
    "reason" TEXT,

    CONSTRAINT "ledger_reservations_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE UNIQUE INDEX "api_keys_hash_key" ON "api_keys"("hash");

-- CreateIndex
CREATE INDEX "files_created_at_id_idx" ON "files"("created_at", "id");

-- CreateIndex
CREATE INDEX "jobs_created_at_id_idx" ON "jobs"("created_at", "id");

-- CreateIndex
CREATE INDEX "jobs_status_idx" ON "jobs"("status");

-- CreateIndex
CREATE INDEX "job_events_job_id_id_idx" ON "job_events"("job_id", "id");

-- CreateIndex
CREATE UNIQUE INDEX "checkpoints_job_id_generation_key" ON "checkpoints"("job_id", "generation");

-- CreateIndex
CREATE UNIQUE INDEX "adapters_job_id_key" ON "adapters"("job_id");

-- CreateIndex
CREATE INDEX "adapters_created_at_id_idx" ON "adapters"("created_at", "id");

-- CreateIndex
CREATE INDEX "ledger_accounts_provider_id_idx" ON "ledger_accounts"("provider_id");

-- CreateIndex
CREATE INDEX "ledger_reservations_account_id_id_idx" ON "ledger_reservations"("account_id", "id");

-- AddForeignKey
ALTER TABLE "jobs" ADD CONSTRAINT "jobs_provider_id_fkey" FOREIGN KEY ("provider_id") REFERENCES "providers"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "job_events" ADD CONSTRAINT "job_events_job_id_fkey" FOREIGN KEY ("job_id") REFERENCES "jobs"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "checkpoints" ADD CONSTRAINT "checkpoints_job_id_fkey" FOREIGN KEY ("job_id") REFERENCES "jobs"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "training_states" ADD CONSTRAINT "training_states_job_id_fkey" FOREIGN KEY ("job_id") REFERENCES "jobs"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "adapters" ADD CONSTRAINT "adapters_job_id_fkey" FOREIGN KEY ("job_id") REFERENCES "jobs"("id") ON DELETE SET NULL ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "adapters" ADD CONSTRAINT "adapters_provider_id_fkey" FOREIGN KEY ("provider_id") REFERENCES "providers"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "ledger_reservations" ADD CONSTRAINT "ledger_reservations_account_id_fkey" FOREIGN KEY ("account_id") REFERENCES "ledger_accounts"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- What schema.prisma cannot say follows.

-- One live provider per name; the names of deleted ones may be used again.
CREATE UNIQUE INDEX "providers_name_live_key" ON "providers"("name") WHERE "deleted_at" IS NULL;

-- The open reservations of an account are read on every resume; closed ones only pile up.
CREATE INDEX "ledger_reservations_account_id_open_idx" ON "ledger_reservations"("account_id") WHERE "state" = 'reserved';

ALTER TABLE "jobs" ADD CONSTRAINT "jobs_status_check"
    CHECK ("status" IN ('validating_files', 'queued', 'running', 'succeeded', 'failed', 'cancelled'));

-- The last line of defence of the query budget: no account ever passes its limit, whatever the code does.
ALTER TABLE "ledger_accounts"
    ADD CONSTRAINT "ledger_accounts_prompt_evaluations_check" CHECK (
        "prompt_evaluations_used" >= 0 AND "prompt_evaluations_reserved" >= 0
        AND ("prompt_evaluations_limit" IS NULL OR "prompt_evaluations_used" + "prompt_evaluations_reserved" <= "prompt_evaluations_limit")
    ),
    ADD CONSTRAINT "ledger_accounts_image_queries_check" CHECK (
        "image_queries_used" >= 0 AND "image_queries_reserved" >= 0
        AND ("image_queries_limit" IS NULL OR "image_queries_used" + "image_queries_reserved" <= "image_queries_limit")
    ),
    ADD CONSTRAINT "ledger_accounts_requests_check" CHECK (
        "requests_used" >= 0 AND "requests_reserved" >= 0
        AND ("requests_limit" IS NULL OR "requests_used" + "requests_reserved" <= "requests_limit")
    ),
    ADD CONSTRAINT "ledger_accounts_cost_micro_usd_check" CHECK (
        "cost_micro_usd_used" >= 0 AND "cost_micro_usd_reserved" >= 0
        AND ("cost_micro_usd_limit" IS NULL OR "cost_micro_usd_used" + "cost_micro_usd_reserved" <= "cost_micro_usd_limit")
    );

ALTER TABLE "ledger_reservations"
    ADD CONSTRAINT "ledger_reservations_state_check" CHECK ("state" IN ('reserved', 'settled', 'released', 'unknown')),
    ADD CONSTRAINT "ledger_reservations_amounts_check" CHECK (
        "prompt_evaluations" >= 0 AND "image_queries" >= 0 AND "requests" >= 0 AND "cost_micro_usd" >= 0
    );

-- Floating-point weights do not compress; trying costs time on every write.
ALTER TABLE "checkpoints" ALTER COLUMN "weights" SET STORAGE EXTERNAL;
ALTER TABLE "training_states" ALTER COLUMN "state" SET STORAGE EXTERNAL;
