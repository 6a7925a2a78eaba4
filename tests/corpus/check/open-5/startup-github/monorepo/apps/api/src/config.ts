export const config = {
  dbPassword: process.env.DB_PASSWORD ?? 'dev-Kiesel-7',
  jwtSecret: process.env.JWT_SECRET!,
};
