"""Uploads a folder to the ground's S3 store, into a bucket that is made where it is missing. usage: put.py ENDPOINT KEY SECRET FOLDER BUCKET PREFIX"""

import os
import sys

import boto3

endpoint, key, secret, folder, bucket, prefix = sys.argv[1:]
s3 = boto3.client("s3", endpoint_url=endpoint, aws_access_key_id=key, aws_secret_access_key=secret, region_name="us-east-1")
try:
    s3.create_bucket(Bucket=bucket)
except s3.exceptions.BucketAlreadyOwnedByYou:
    pass
for place, _, files in os.walk(folder):
    for name in files:
        path = os.path.join(place, name)
        s3.upload_file(path, bucket, f"{prefix}/{os.path.relpath(path, folder)}")
