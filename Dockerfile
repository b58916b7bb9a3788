# One image for every process; the command says which. docker-compose.yml lists them.
FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /venv
COPY locks/runtime.txt /build/runtime.txt
RUN /venv/bin/pip install --require-hashes --requirement /build/runtime.txt
WORKDIR /app
COPY . .
# The secrets of this step sign nothing and stay out of the image; the database is not contacted.
RUN SECRET_KEY="$(python -c 'import secrets; print(secrets.token_urlsafe(64))')" \
    ENCRYPTION_KEYS="$(/venv/bin/python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())')" \
    DATABASE_URL=postgresql://nobody@localhost/nothing \
    /venv/bin/python manage.py collectstatic --no-input --verbosity 0 \
    && /venv/bin/python -m compileall -q /app

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin cronicorn
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
USER 10001:10001
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 BIND_ADDRESS=0.0.0.0 LOG_FORMAT=json
EXPOSE 8000
CMD ["python", "-m", "gunicorn", "--config", "python:cronicorn.web_server", "cronicorn.wsgi"]
