-- CreateTable
CREATE TABLE "stored_answers" (
    "job_id" TEXT NOT NULL,
    "generation" INTEGER NOT NULL,
    "chunk" INTEGER NOT NULL,
    "call_hash" BYTEA NOT NULL,
    "logits" BYTEA NOT NULL,

    CONSTRAINT "stored_answers_pkey" PRIMARY KEY ("job_id","generation","chunk")
);

-- AddForeignKey
ALTER TABLE "stored_answers" ADD CONSTRAINT "stored_answers_job_id_fkey" FOREIGN KEY ("job_id") REFERENCES "jobs"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- Floats do not compress; trying costs more than it saves.
ALTER TABLE "stored_answers" ALTER COLUMN "logits" SET STORAGE EXTERNAL;
