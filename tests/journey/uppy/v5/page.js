import Uppy from "@uppy/core";
import AwsS3 from "@uppy/aws-s3";
import { serve } from "../uploader.js";

serve(Uppy, AwsS3);
