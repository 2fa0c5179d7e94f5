// A spell of sharp: one process, one thread; see spell.py for what it is told and what it says.
// The photo is decoded once, and each size is made from the pixels of the next larger one.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import sharp from 'sharp'

const job = JSON.parse(process.argv[2])

sharp.concurrency(1)
sharp.cache(false) // it would keep the decoded photo for the next image

async function scale() {
  let input = sharp(job.photo)
  for (const size of job.sizes_px) {
    const { data, info } = await input
      .resize({ width: size, height: size, fit: 'inside', withoutEnlargement: true })
      .raw()
      .toBuffer({ resolveWithObject: true })
    const raw = { width: info.width, height: info.height, channels: info.channels }
    await sharp(data, { raw })
      .jpeg({
        quality: job.quality,
        chromaSubsampling: '4:2:0',
        progressive: job.is_progressive,
        optimiseCoding: true,
      })
      .toFile(join(job.folder, `${size}.jpg`))
    input = sharp(data, { raw })
  }
}

await scale()
const began = process.hrtime.bigint()
const beganCpu = process.cpuUsage()
for (let number = 0; number < job.images; number += 1) {
  await scale()
}
const seconds = Number(process.hrtime.bigint() - began) / 1e9
const cpu = process.cpuUsage(beganCpu)
const peak = readFileSync('/proc/self/status', 'utf8').match(/^VmHWM:\s*(\d+) kB$/m)
console.log(
  JSON.stringify({
    seconds,
    cpu_seconds: (cpu.user + cpu.system) / 1e6,
    peak_bytes: Number(peak[1]) * 1024,
  })
)
