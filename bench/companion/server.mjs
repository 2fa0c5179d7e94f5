// Uppy Companion as its documentation sets it up in an express application, with S3 as the only destination.
// Everything it needs comes from the environment; it listens on the loopback address only.
import * as companion from '@uppy/companion'
import express from 'express'

const { COMPANION_PORT, COMPANION_SECRET, COMPANION_FOLDER } = process.env
const { S3_ENDPOINT_URL, S3_REGION, S3_BUCKET, S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY } = process.env

const app = express()
app.get('/healthz', (_, answer) => answer.end())

const { app: routes } = companion.app({
  server: { host: `127.0.0.1:${COMPANION_PORT}`, protocol: 'http' },
  filePath: COMPANION_FOLDER,
  secret: COMPANION_SECRET,
  corsOrigins: true,
  uploadUrls: [S3_ENDPOINT_URL],
  // Counting requests costs it time, and nobody reads the counts here.
  metrics: false,
  s3: {
    bucket: S3_BUCKET,
    region: S3_REGION,
    endpoint: S3_ENDPOINT_URL,
    key: S3_ACCESS_KEY_ID,
    secret: S3_SECRET_ACCESS_KEY,
    expires: 3600,
    awsClientOptions: {
      forcePathStyle: true,
      // Left to itself the SDK signs the checksum of an empty body into each URL, and storage refuses any other body.
      requestChecksumCalculation: 'WHEN_REQUIRED',
    },
  },
})
app.use(routes)

app.listen(Number(COMPANION_PORT), '127.0.0.1')
