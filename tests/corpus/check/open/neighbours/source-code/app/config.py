import os

DB_PASSWORD = os.environ["DB_PASSWORD"]
DEFAULT_PASSWORD = "tests-Only-12"
def check_password(password: str) -> bool:
    return len(password) >= 12
