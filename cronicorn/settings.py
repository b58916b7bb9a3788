"""Django settings, all derived from `cronicorn.env`; nothing else in the project reads the environment."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from csp.constants import NONCE, NONE, SELF
from django.templatetags.static import static
from django.urls import reverse_lazy

from cronicorn.env import PROJECT_DIR, read_environment, variables
from cronicorn.logging import logging_configuration
from cronicorn.mail import email_from_url
from cronicorn.postgres.configuration import database_from_url

ENV = read_environment(variables())

if ENV.ssl_cert_file:
    # OpenSSL and the HTTP clients read the process environment, not `.env`.
    os.environ["SSL_CERT_FILE"] = ENV.ssl_cert_file

BASE_DIR: Path = PROJECT_DIR
DEBUG = ENV.debug
SECRET_KEY = ENV.secret_key
ALLOWED_HOSTS = list(ENV.allowed_hosts)
ROOT_URLCONF = "cronicorn.urls"
WSGI_APPLICATION = "cronicorn.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "accounts.User"
SITE_ID = 1
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
USE_I18N = False

INSTALLED_APPS = [
    "unfold",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.admin.apps.SimpleAdminConfig",
    "django.contrib.postgres",
    "allauth",
    "allauth.account",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.github",
    "allauth.socialaccount.providers.google",
    "allauth.socialaccount.providers.openid_connect",
    "rest_framework",
    "drf_spectacular",
    "drf_standardized_errors",
    "csp",
    "cronicorn",
    "accounts",
    "jobs",
    "scheduling",
    "planner",
    "synthetic",
]

MIDDLEWARE = [
    "cronicorn.middleware.SiteMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "accounts.middleware.ProviderMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
            ],
        },
    },
]

DATABASES: dict[str, dict[str, Any]] = {
    "default": database_from_url(ENV.database_url, data_dir=ENV.data_dir, durable=ENV.database_durable)
}

# Web security. Cookies are Secure wherever people reach the site over TLS.
SECURE_SITE = ENV.public_url.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SITE
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECURE_SSL_REDIRECT = SECURE_SITE
SECURE_SSL_HOST = urlsplit(ENV.public_url).netloc
SECURE_REDIRECT_EXEMPT = [r"^api/synthetic/", r"^api/health$"]
SECURE_HSTS_SECONDS = 31_536_000 if SECURE_SITE else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = SECURE_SITE
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if ENV.behind_proxy else None
CSRF_TRUSTED_ORIGINS = [ENV.public_url]
CSRF_FAILURE_VIEW = "cronicorn.error_pages.csrf_failure"
X_FRAME_OPTIONS = "DENY"
# Browsers hold a form to its policy through redirects, so the way to a provider's sign-in page must be open too.
SIGN_IN_ORIGINS = [
    *(["https://github.com"] if ENV.github_client_id else []),
    *(["https://accounts.google.com"] if ENV.google_client_id else []),
    *(["{0.scheme}://{0.netloc}".format(urlsplit(ENV.oidc_server_url))] if ENV.oidc_client_id else []),
]
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        # The console's pages add 'unsafe-eval', which their theme's Alpine.js needs: see cronicorn.admin.
        "script-src": [SELF, NONCE],
        "style-src": [SELF, "'unsafe-inline'"],
        "img-src": [SELF, "data:"],
        "connect-src": [SELF],
        "object-src": [NONE],
        "base-uri": [SELF],
        "form-action": [SELF, *SIGN_IN_ORIGINS],
        "frame-ancestors": [NONE],
    }
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_048_576
DATA_UPLOAD_MAX_NUMBER_FIELDS = 2000

STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}

# People.
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_ADAPTER = "accounts.adapters.AccountAdapter"
SOCIALACCOUNT_ADAPTER = "accounts.adapters.SocialAccountAdapter"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_DEFAULT_HTTP_PROTOCOL = "https" if SECURE_SITE else "http"
ACCOUNT_LOGOUT_ON_GET = ACCOUNT_CONFIRM_EMAIL_ON_GET = False
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_EMAIL_SUBJECT_PREFIX = "[Cronicorn] "
# Behind one proxy that we were told to trust, guesses are counted by the address that it forwards.
ALLAUTH_TRUSTED_PROXY_COUNT = 1 if ENV.behind_proxy else 0
SOCIALACCOUNT_LOGIN_ON_GET = False
SOCIALACCOUNT_QUERY_EMAIL = True
SOCIALACCOUNT_EMAIL_AUTHENTICATION = False
SOCIALACCOUNT_PROVIDERS: dict[str, Any] = {
    "github": {"SCOPE": ["user:email"], "OAUTH_PKCE_ENABLED": True},
    "google": {"SCOPE": ["profile", "email"], "OAUTH_PKCE_ENABLED": True},
    "openid_connect": {"OAUTH_PKCE_ENABLED": True},
}
if ENV.github_client_id:
    SOCIALACCOUNT_PROVIDERS["github"]["APPS"] = [
        {"client_id": ENV.github_client_id, "secret": ENV.github_client_secret}
    ]
if ENV.google_client_id:
    SOCIALACCOUNT_PROVIDERS["google"]["APPS"] = [
        {"client_id": ENV.google_client_id, "secret": ENV.google_client_secret}
    ]
if ENV.oidc_client_id:
    SOCIALACCOUNT_PROVIDERS["openid_connect"]["APPS"] = [
        {
            "provider_id": "sso",
            "name": ENV.oidc_name,
            "client_id": ENV.oidc_client_id,
            "secret": ENV.oidc_client_secret,
            "settings": {"server_url": ENV.oidc_server_url},
        }
    ]
globals().update(email_from_url(ENV.email_url))
DEFAULT_FROM_EMAIL = SERVER_EMAIL = ENV.email_from

# The REST API: strict JSON in, JSON out, one error shape.
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.authentication.ApiKeyAuthentication",
        "accounts.authentication.BrowserSessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.authentication.MayReadOrWrite"],
    "DEFAULT_PARSER_CLASSES": ["jobs.api.protocol.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["jobs.api.protocol.WrittenJSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "jobs.api.protocol.Negotiation",
    "DEFAULT_METADATA_CLASS": None,
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "drf_standardized_errors.handler.exception_handler",
    "URL_FORMAT_OVERRIDE": None,
    "DATETIME_FORMAT": "%Y-%m-%dT%H:%M:%S.%fZ",
}
DRF_STANDARDIZED_ERRORS = {
    "EXCEPTION_HANDLER_CLASS": "jobs.api.errors.Handler",
    "EXCEPTION_FORMATTER_CLASS": "jobs.api.errors.Formatter",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Cronicorn",
    "DESCRIPTION": "Calls HTTP endpoints on time, and adapts each schedule to what comes back.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SCHEMA_PATH_PREFIX": "/api",
    "COMPONENT_SPLIT_REQUEST": True,
    "SERVE_INCLUDE_SCHEMA": False,
}

# The console.
UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Cronicorn",
    "SITE_HEADER": "Cronicorn",
    "SITE_URL": None,
    "SITE_ICON": lambda request: static("cronicorn/logo.svg"),
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("cronicorn/logo.svg")},
    ],
    "STYLES": [lambda request: static("cronicorn/console.css")],
    "SCRIPTS": [lambda request: static("cronicorn/console.js")],
    "SHOW_VIEW_ON_SITE": False,
    "BORDER_RADIUS": "8px",
    "COLORS": {
        "primary": {
            "50": "oklch(97.7% .013 236.6)",
            "100": "oklch(95.1% .026 236.8)",
            "200": "oklch(90.1% .058 230.9)",
            "300": "oklch(82.8% .111 230.3)",
            "400": "oklch(74.6% .16 232.7)",
            "500": "oklch(65% .16 240)",
            "600": "oklch(54.6% .16 246)",
            "700": "oklch(48% .14 248)",
            "800": "oklch(42.4% .12 250)",
            "900": "oklch(36.5% .1 252)",
            "950": "oklch(27% .08 254)",
        },
    },
    "ACCOUNT": {
        "navigation": [
            {"title": "Change password", "link": reverse_lazy("account_change_password")},
            {"title": "E-mail addresses", "link": reverse_lazy("account_email")},
            {"title": "Sign-in providers", "link": reverse_lazy("socialaccount_connections")},
        ],
    },
    "SIDEBAR": {
        "show_search": True,
        "navigation": [
            {
                "items": [
                    {"title": "Dashboard", "icon": "monitoring", "link": reverse_lazy("admin:index")},
                ],
            },
            {
                "title": "Schedules",
                "items": [
                    {"title": "Jobs", "icon": "folder", "link": reverse_lazy("admin:jobs_job_changelist")},
                    {"title": "Endpoints", "icon": "schedule", "link": reverse_lazy("admin:jobs_endpoint_changelist")},
                    {"title": "Runs", "icon": "bolt", "link": reverse_lazy("admin:jobs_run_changelist")},
                ],
            },
            {
                "title": "Planner",
                "items": [
                    {
                        "title": "Proposals",
                        "icon": "lightbulb",
                        "link": reverse_lazy("admin:planner_proposal_changelist"),
                    },
                    {
                        "title": "Sessions",
                        "icon": "psychology",
                        "link": reverse_lazy("admin:planner_analysissession_changelist"),
                    },
                ],
            },
            {
                "title": "Access",
                "items": [
                    {"title": "API keys", "icon": "key", "link": reverse_lazy("admin:accounts_apikey_changelist")},
                    {
                        "title": "Users",
                        "icon": "group",
                        "link": reverse_lazy("admin:accounts_user_changelist"),
                        "permission": "cronicorn.admin.is_operator",
                    },
                ],
            },
        ],
    },
}

LOGGING = logging_configuration(ENV.log_format, ENV.log_level)
SILENCED_SYSTEM_CHECKS: list[str] = []
