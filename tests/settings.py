"""The settings of the test suite: the product's own, with an environment that the tests control.

The embedded server of the tests keeps apart from the one of `scripts/up`, and does not wait for the disk.
"""

import os

from cryptography.fernet import Fernet

os.environ.update(
    {
        "SECRET_KEY": "only-for-tests-" + "x" * 50,
        "ENCRYPTION_KEYS": os.environ.get("ENCRYPTION_KEYS") or Fernet.generate_key().decode(),
        "DATA_DIR": os.environ.get("TEST_DATA_DIR", ".data/test"),
        "DATABASE_DURABLE": "false",
        "EGRESS_ALLOW": "127.0.0.0/8,[::1]/128",
        "ALLOWED_HOSTS": "127.0.0.1,localhost,testserver",
        "LOG_LEVEL": "WARNING",
        "DEBUG": "false",
    }
)

from cronicorn.settings import *  # noqa: F403
from cronicorn.settings import ENV

STATIC_ROOT = ENV.data_dir / "static"
STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # WhiteNoise warns where it is missing, and warnings are errors
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
