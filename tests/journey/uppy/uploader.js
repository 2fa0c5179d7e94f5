// What a page with a file input does with Uppy, and a record of what Uppy said meanwhile, for the test to read.

export function serve(Uppy, AwsS3) {
  window.begin = (settings) => {
    const uppy = new Uppy().use(AwsS3, settings);
    const seen = { version: AwsS3.VERSION, parts: [], key: "", location: "", done: false, error: "" };
    uppy.on("s3-multipart:part-uploaded", (file, part) => {
      seen.parts.push(part.PartNumber);
      seen.key = uppy.getFile(file.id).s3Multipart?.key ?? ""; // a file in one piece has none yet
    });
    uppy.on("upload-success", (file, answer) => {
      seen.key = answer.body.key;
      seen.location = answer.uploadURL;
      seen.done = true;
    });
    uppy.on("upload-error", (file, error) => {
      seen.error = String(error);
    });
    for (const file of document.querySelector("input").files) {
      uppy.addFile({ name: file.name, type: file.type, data: file });
    }
    Object.assign(window, { uppy, seen });
    uppy.upload();
  };
}
