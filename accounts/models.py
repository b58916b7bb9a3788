"""Who may call: people, their API keys and their signing keys."""

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Lower, Now

from accounts.ids import UuidV7


class UserManager(BaseUserManager["User"]):
    """Creates users, known by their e-mail address."""

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """Creates an active user; without a password only sign-in through a provider works."""
        user = self.model(email=email.strip().lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """Creates an operator, who sees everything."""
        return self.create_user(email, password, is_superuser=True, **fields)


class User(AbstractBaseUser, PermissionsMixin):
    """A person. Superusers are operators; every other active user sees only what is theirs."""

    id = models.UUIDField(primary_key=True, db_default=UuidV7(), editable=False)
    email = models.EmailField(max_length=254, unique=True)
    name = models.CharField(max_length=255, blank=True)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    ai_daily_token_limit = models.BigIntegerField(null=True, blank=True, editable=False)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        db_table = "users"
        constraints = [
            models.CheckConstraint(condition=models.Q(email=Lower("email")), name="user_email_is_in_lower_case"),
        ]

    def __str__(self) -> str:
        return self.email

    @property
    def is_staff(self) -> bool:
        """Whether the console lets this person in: everybody who is active. Django's admin asks by this name."""
        return self.is_active

    def get_full_name(self) -> str:
        """What the console calls this person beside their address: the name, else the address up to its @."""
        return self.name or self.email.partition("@")[0]


class Scope(models.TextChoices):
    """What an API key may do; `write` includes `read`."""

    READ = "read"
    WRITE = "write"


class ApiKey(models.Model):
    """A key of the REST API, kept as a public prefix and a hash; the secret is shown once."""

    id = models.UUIDField(primary_key=True, db_default=UuidV7(), editable=False)
    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=255)
    prefix = models.CharField(max_length=16, unique=True, editable=False)
    secret_hash = models.CharField(max_length=64, editable=False)
    scopes = ArrayField(models.CharField(max_length=16, choices=Scope.choices), default=list)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, editable=False)
    revoked_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        db_table = "api_keys"
        verbose_name = "API key"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(scopes__len__gt=0, scopes__contained_by=Scope.values),
                name="api_key_has_known_scopes",
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix})"


class SigningKey(models.Model):
    """A key that signs outgoing calls of one owner; two are live during a rotation."""

    id = models.UUIDField(primary_key=True, db_default=UuidV7(), editable=False)
    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="signing_keys")
    sealed = models.TextField(editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    retires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "signing_keys"
        indexes = [models.Index(fields=["owner", "-created_at"], name="signing_keys_by_owner")]


class SetupLink(models.Model):
    """The link with which the first operator sets the password, once; only a hash of its secret is kept."""

    user = models.OneToOneField(User, on_delete=models.CASCADE, primary_key=True, related_name="setup_link")
    token_hash = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(editable=False)
    used_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        db_table = "setup_links"
