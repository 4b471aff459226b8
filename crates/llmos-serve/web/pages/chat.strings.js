// Words of the page Chat.

export default { en: {}, zh: {} };
